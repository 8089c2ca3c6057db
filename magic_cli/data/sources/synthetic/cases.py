"""Invented patients for the demo: how their lesions look, what they write, and the closed answers that follow.

Answers agree with the drawing (number, size, colour, texture) and with the text (site, onset, itch); what
neither shows is "Not mentioned". All sentences were written for this program.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from magic_cli.data.sources.synthetic.drawing import TONES, Look


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of lesion: its look, skin description (options of CQID020), names and a patient's words for it."""

    look: Look
    several: tuple[int, int]
    skin: tuple[str, ...]
    names: tuple[str, ...]
    words: tuple[str, ...]
    itch: float = 0.5


@dataclass(frozen=True, slots=True)
class Patient:
    """An invented patient's encounter; `answers` maps a parent question to the texts of its options."""

    look: Look
    tone: int
    limb: bool
    photos: int
    title: str
    content: str
    responses: tuple[str, ...]
    answers: dict[str, tuple[str, ...]]


KINDS = (
    Kind(
        Look("brown", radius=(0.08, 0.17), edge=0.12, irregular=0.18, height=0.04, bumps=0.1),
        (2, 3),
        ("flat",),
        ("a benign melanocytic nevus", "an ordinary mole", "a lentigo"),
        ("a brown spot", "a mole that worries me", "a dark spot"),
        0.1,
    ),
    Kind(
        Look("black", radius=(0.09, 0.18), edge=0.1, irregular=0.35, height=0.05, bumps=0.15),
        (2, 2),
        ("raised or bumpy",),
        ("a melanoma, please have it removed", "an atypical nevus", "a pigmented growth that needs a biopsy"),
        ("a black patch with ragged borders", "a very dark growth", "a black spot that changed its shape"),
        0.2,
    ),
    Kind(
        Look("red", radius=(0.1, 0.19), edge=0.1, irregular=0.25, height=0.06, bumps=0.2, scale=0.8),
        (2, 5),
        ("thick or raised",),
        ("plaque psoriasis", "psoriasis", "a psoriatic plaque"),
        ("a red, scaly patch", "thick red skin that sheds white flakes", "a flaky red area"),
        0.6,
    ),
    Kind(
        Look("pink", radius=(0.19, 0.29), edge=0.5, irregular=0.35, height=0.01, bumps=0.15, scale=0.25),
        (2, 3),
        ("flat", "thin or close to the surface"),
        ("eczema", "contact dermatitis", "atopic dermatitis"),
        ("a pink, dry patch", "dry irritated skin", "a rash with blurred borders"),
        0.9,
    ),
    Kind(
        Look("red", count=(12, 12), radius=(0.02, 0.05), edge=0.3, irregular=0.15, height=0.15, wet=0.3),
        (10, 20),
        ("raised or bumpy",),
        ("urticaria", "insect bites", "folliculitis", "a viral rash"),
        ("many small red bumps", "a rash of red pimples", "little red dots everywhere"),
        0.8,
    ),
    Kind(
        Look("white", radius=(0.12, 0.25), edge=0.08, irregular=0.4),
        (2, 4),
        ("flat",),
        ("vitiligo", "a loss of pigment, most likely vitiligo"),
        ("white skin that does not tan", "a pale patch that spreads", "a patch that lost its colour"),
        0.05,
    ),
    Kind(
        Look(
            "combination (please specify)",
            radius=(0.08, 0.16),
            edge=0.2,
            irregular=0.3,
            height=0.08,
            bumps=0.3,
            crust=0.8,
        ),
        (2, 3),
        ("crust", "scab"),
        ("impetigo", "an infected wound with crusts", "herpes in its crusted stage"),
        ("a sore with yellow crusts", "a wound that keeps forming a scab", "a crusted sore, brown and red"),
        0.4,
    ),
    Kind(
        Look("purple", radius=(0.05, 0.14), edge=0.4, irregular=0.3),
        (3, 7),
        ("flat",),
        ("purpura, please have your platelets counted", "bruises", "a vasculitis"),
        ("purple stains", "blotches like bruises, though I did not hit myself", "a violet mark"),
        0.1,
    ),
    Kind(
        Look("normal skin color", radius=(0.06, 0.1), edge=0.1, irregular=0.2, height=0.25, bumps=0.8),
        (2, 4),
        ("raised or bumpy", "warty"),
        ("common warts", "a viral wart", "verruca vulgaris"),
        ("a rough lump in the colour of the skin", "a hard wart", "something like a small cauliflower"),
        0.2,
    ),
    Kind(
        Look("red", radius=(0.1, 0.2), edge=0.15, irregular=0.25, height=-0.12, bumps=0.3, wet=0.9),
        (2, 2),
        ("skin loss or sunken", "weeping"),
        ("a skin ulcer", "a venous ulcer", "pyoderma gangrenosum"),
        ("an open wound that leaks fluid", "a hole in the skin that will not close", "a wet, raw sore"),
        0.2,
    ),
    Kind(
        Look("hyperpigmentation", radius=(0.12, 0.24), edge=0.4, irregular=0.35),
        (2, 4),
        ("flat",),
        ("post-inflammatory hyperpigmentation", "melasma", "a café-au-lait spot"),
        ("skin that became darker", "a tan patch", "a shadow that does not wash off"),
        0.1,
    ),
)

SITES = {
    "head": ("forehead", "scalp", "cheek", "chin"),
    "neck": ("neck", "nape of the neck", "side of the neck"),
    "upper extremities": ("forearm", "upper arm", "back of the hand", "elbow"),
    "lower extremities": ("shin", "thigh", "calf", "ankle"),
    "chest/abdomen": ("chest", "belly", "abdomen"),
    "back": ("upper back", "lower back", "shoulder blade"),
}

ONSETS = {
    "within hours": ("It came up a few hours ago.", "It was not there this morning.", "It began three hours ago."),
    "within days": ("I have had it for four days.", "It started two days ago.", "First seen five days ago."),
    "within weeks": ("It has been there for three weeks.", "It began about two weeks ago.", "Noticed some weeks ago."),
    "within months": ("It has been there for four months.", "It started half a year ago.", "Present for two months."),
    "over a year": ("I have had it for a bit more than a year.", "It appeared last year, some 14 months ago."),
    "multiple years": ("I have had it for many years.", "It has been there for ten years.", "There since childhood."),
}

ITCH = {
    "yes": ("It itches a lot.", "The itch keeps me awake.", "Itchy, mostly at night.", "I cannot stop scratching."),
    "no": ("It does not itch.", "No itching at all.", "There is no itch and no pain."),
}

SIZES = {
    "size of thumb nail": ("It is smaller than my thumb nail (<1 cm).", "About the size of a thumb nail."),
    "size of palm": ("It is about as large as my palm.", "The size of a palm."),
    "larger area": ("It covers a large area by now.", "It is much larger than my hand."),
}

NUMBERS = {
    "single": ("There is only one.", "Just this one spot.", "No others anywhere else."),
    "multiple (please specify)": ("There are several of them.", "I count more and more of them.", "More than one."),
}

TITLES = ("What is this?", "Please help me with this picture.", "Which skin disease is this?", "Question about my skin")

OPENINGS = (
    "Hello doctor.",
    "{age}-year-old {sex}.",
    "Patient: {sex}, {age} years.",
    "I am {age} years old, {sex}.",
    "",
)

TREATED = ("I tried a cream from the pharmacy without success.", "No treatment so far.", "Nobody in my family has it.")

OPINIONS = ("This looks like {}.", "I think of {} first.", "Most likely {}.", "Could be {}.", "In my opinion it is {}.")

ADVICE = (
    "Please see a dermatologist.",
    "Keep it clean and watch it.",
    "A photo from closer would help.",
    "It may take some weeks.",
)


def make_patient(rng: np.random.Generator, number: int) -> Patient:
    """Return an invented patient; kinds take turns with `number`, all else is drawn from `rng`."""
    kind = KINDS[number % len(KINDS)]
    many = kind.look.count[0] > 1 or rng.random() < 0.45
    look = replace(kind.look, count=kind.several if many else (1, 1))
    sites = [str(site) for site in rng.permutation(list(SITES))][: 2 if many and rng.random() < 0.3 else 1]
    seen = _seen(kind, look, many)
    mentioned = {
        "CQID011": tuple(sites) if rng.random() < 0.8 else (),
        "CQID015": (_pick(rng, tuple(ONSETS)),) if rng.random() < 0.7 else (),
        "CQID025": ("yes" if rng.random() < kind.itch else "no",) if rng.random() < 0.75 else (),
    }
    return Patient(
        look=look,
        tone=int(rng.integers(len(TONES))),
        limb="extremities" in sites[0] or bool(rng.random() < 0.15),
        photos=int(rng.choice((1, 2, 3), p=(0.55, 0.35, 0.1))),
        title=_pick(rng, (*TITLES, _upper(_pick(rng, kind.words)))),
        content=_content(rng, kind, seen, mentioned),
        responses=_responses(rng, kind),
        answers=seen | {parent: texts or ("Not mentioned",) for parent, texts in mentioned.items()},
    )


def _seen(kind: Kind, look: Look, many: bool) -> dict[str, tuple[str, ...]]:
    """Return the answers that the drawing shows."""
    middle = sum(look.radius) / 2
    size = "size of thumb nail" if middle < 0.12 else "size of palm" if middle < 0.185 else "larger area"
    spread = "widespread" if look.count[1] > 6 else "limited area" if many or middle > 0.185 else "single spot"
    return {
        "CQID010": (spread,),
        "CQID012": (size,),
        "CQID020": kind.skin,
        "CQID034": (look.colour,),
        "CQID035": ("multiple (please specify)" if many else "single",),
        "CQID036": ("rough" if look.scale + look.crust + look.bumps > 0.25 else "smooth",),
    }


def _content(
    rng: np.random.Generator, kind: Kind, seen: dict[str, tuple[str, ...]], mentioned: dict[str, tuple[str, ...]]
) -> str:
    """Return a query that mentions all of `mentioned` and part of `seen`, in random order after an opening."""
    places = [_pick(rng, SITES[site]) for site in mentioned["CQID011"]]
    where = f" on my {' and on my '.join(places)}" if places else ""
    parts = [_pick(rng, ("I have {}.", "I noticed {}.", "The photo shows {}.")).format(_pick(rng, kind.words) + where)]
    parts += [_pick(rng, ONSETS[text]) for text in mentioned["CQID015"]]
    parts += [_pick(rng, ITCH[text]) for text in mentioned["CQID025"]]
    parts += [_pick(rng, SIZES[text]) for text in seen["CQID012"] if rng.random() < 0.5]
    parts += [_pick(rng, NUMBERS[text]) for text in seen["CQID035"] if rng.random() < 0.4]
    parts += [_pick(rng, TREATED)] if rng.random() < 0.4 else []
    opening = _pick(rng, OPENINGS).format(age=int(rng.integers(14, 90)), sex=_pick(rng, ("female", "male")))
    return " ".join([opening, *(parts[i] for i in rng.permutation(len(parts)))]).strip()


def _responses(rng: np.random.Generator, kind: Kind) -> tuple[str, ...]:
    """Return one to three clinicians' answers; the last of several may be mistaken."""
    texts = [_pick(rng, OPINIONS).format(_pick(rng, kind.names)) for _ in range(int(rng.integers(1, 3)))]
    if rng.random() < 0.2:
        texts.append(_pick(rng, OPINIONS).format(_pick(rng, KINDS[rng.integers(len(KINDS))].names)))
    return tuple(f"{text} {_pick(rng, ADVICE)}" if rng.random() < 0.4 else text for text in texts)


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _pick(rng: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[int(rng.integers(len(texts)))]
