"""The part of report.html about closed questions: confusions and wrong answers, with the photos that they are about."""
