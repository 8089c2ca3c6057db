"""Captions of photos that have a label and no text: several sentences about its class.

As UniMed-CLIP (Khattak et al., 2024) turns sets of labelled photos into pairs of photos and texts. The sentences are
our own; which one comes first depends on the case, so that the captions of a class are not all alike.
"""

from magic_cli.data.hashed_words import text_hash

TEMPLATES = (
    "A photo of skin with {}.",
    "The lesion in this picture is {}.",
    "This patient was diagnosed with {}.",
    "A clinical picture of {}.",
    "{} on the skin.",
    "An example of {} in dermatology.",
    "The skin shows {}.",
    "Here one sees a case of {}.",
)

MOST = len(TEMPLATES)


def label_captions(name: str, case_id: str, number: int) -> tuple[str, ...]:
    """Return `number` different captions of the class `name`, 1 to MOST; () for "".

    >>> label_captions("nevus", "c1", 2)
    ('Here one sees a case of nevus.', 'A photo of skin with nevus.')
    """
    first = text_hash(case_id) % MOST
    chosen = (TEMPLATES[(first + place) % MOST] for place in range(number if name else 0))
    captions = (template.format(name) for template in chosen)
    return tuple(caption[:1].upper() + caption[1:] for caption in captions)
