"""The part of report.html about contrastive pretraining: ablation, classes and concepts, retrieval with maps."""
