"""The lexicon: every spelling of a term, words as wholes, negation within three words and one sentence."""

import json
import re

import pytest

from magic_cli.data.sources.source import RAW
from magic_cli.data.texts.lexicon import CONCEPT, DISEASE, Lexicon, lexicon, occurs
from magic_cli.data.texts.terms import normalised, word_key

FITZPATRICK_GROUPS = (
    "malignant epidermal; benign dermal; benign epidermal; genodermatoses; malignant melanoma; benign melanocyte;"
    " malignant cutaneous lymphoma; malignant dermal"
)
CODES = "MEL NV BCC AKIEC BKL DF VASC SCC AK ACK NEV SEK BEN_OTH MAL_OTH SCCKA"
DERM7PT = (
    "basal cell carcinoma; blue nevus; clark nevus; combined nevus; congenital nevus; dermal nevus; dermatofibroma;"
    " lentigo; melanoma; melanoma metastasis; melanosis; recurrent nevus; reed or spitz nevus; seborrheic keratosis;"
    " vascular lesion; melanoma (in situ); melanoma (less than 0.76 mm); melanoma (0.76 to 1.5 mm)"
)
FITZPATRICK = (
    "acanthosis nigricans; acne; acne vulgaris; acrodermatitis enteropathica; actinic keratosis; allergic contact"
    " dermatitis; aplasia cutis; basal cell carcinoma; basal cell carcinoma morpheiform; becker nevus; behcets disease;"
    " calcinosis cutis; cheilitis; congenital nevus; dariers disease; dermatofibroma; dermatomyositis; disseminated"
    " actinic porokeratosis; drug eruption; drug induced pigmentary changes; dyshidrotic eczema; eczema; ehlers danlos"
    " syndrome; epidermal nevus; epidermolysis bullosa; erythema annulare centrifigum; erythema elevatum diutinum;"
    " erythema multiforme; erythema nodosum; factitial dermatitis; fixed eruptions; folliculitis; fordyce spots;"
    " granuloma annulare; granuloma pyogenic; hailey hailey disease; halo nevus; hidradenitis; ichthyosis vulgaris;"
    " incontinentia pigmenti; juvenile xanthogranuloma; kaposi sarcoma; keloid; keratosis pilaris; langerhans cell"
    " histiocytosis; lentigo maligna; lichen amyloidosis; lichen planus; lichen simplex; livedo reticularis; lupus"
    " erythematosus; lupus subacute; lyme disease; lymphangioma; malignant melanoma; melanoma; milia; mucinosis; mucous"
    " cyst; mycosis fungoides; myiasis; naevus comedonicus; necrobiosis lipoidica; nematode infection; neurodermatitis;"
    " neurofibromatosis; neurotic excoriations; neutrophilic dermatoses; nevocytic nevus; nevus sebaceous of jadassohn;"
    " papilomatosis confluentes and reticulate; paronychia; pediculosis lids; perioral dermatitis; photodermatoses;"
    " pilar cyst; pilomatricoma; pityriasis lichenoides chronica; pityriasis rosea; pityriasis rubra pilaris;"
    " porokeratosis actinic; porokeratosis of mibelli; porphyria; port wine stain; prurigo nodularis; psoriasis;"
    " pustular psoriasis; pyogenic granuloma; rhinophyma; rosacea; sarcoidosis; scabies; scleroderma; scleromyxedema;"
    " seborrheic dermatitis; seborrheic keratosis; solid cystic basal cell carcinoma; squamous cell carcinoma; stasis"
    " edema; stevens johnson syndrome; striae; sun damaged skin; superficial spreading melanoma ssm; syringoma; tick"
    " bite; tuberous sclerosis; tungiasis; urticaria; urticaria pigmentosa; vitiligo; xanthomas; xeroderma pigmentosum"
)
HAM_AND_MNIST = (
    "actinic keratoses and intraepithelial carcinoma; basal cell carcinoma; benign keratosis-like lesions;"
    " dermatofibroma; melanoma; melanocytic nevi; vascular lesions"
)
SKINCON = (
    "Vesicle; Papule; Macule; Plaque; Abscess; Pustule; Bulla; Patch; Nodule; Ulcer; Crust; Erosion; Excoriation;"
    " Atrophy; Exudate; Purpura/Petechiae; Fissure; Induration; Xerosis; Telangiectasia; Scale; Scar; Friable;"
    " Sclerosis; Pedunculated; Exophytic/Fungating; Warty/Papillomatous; Dome-shaped; Flat topped;"
    " Brown(Hyperpigmentation); Translucent; White(Hypopigmentation); Purple; Yellow; Black; Erythema; Comedo;"
    " Lichenification; Blue; Umbilicated; Poikiloderma; Salmon; Wheal; Acuminate; Burrow; Gray; Pigmented; Cyst"
)


def found(text: str, kind: str = DISEASE) -> list[str]:
    return [mention.term.name for mention in lexicon().mentions(text, frozenset({kind}))]


def names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(";")]


@pytest.mark.parametrize("labels", [FITZPATRICK, FITZPATRICK_GROUPS, DERM7PT, HAM_AND_MNIST, CODES.replace(" ", ";")])
def test_labels_of_datasets_are_diseases(labels: str) -> None:
    assert [label for label in names(labels) if not found(label)] == []


def test_skincon_concepts_are_concepts() -> None:
    listed = names(SKINCON)
    assert len(listed) == 48
    known = {name: lexicon().exact(name) for name in listed}
    assert [name for name, term in known.items() if term is None or term.kind != CONCEPT] == []


@pytest.mark.parametrize(
    "text",
    [
        "basal cell carcinoma", "Basal-Cell Carcinomas", "BASAL CELL CARCINOMATA", "basalcell carcinoma",
        "a BCC, large", "BCCs", "basal\u00a0cell  carcinoma", "ba\u200bsal cell carcinoma", "ＢＣＣ", "基底细胞癌",
        "BasalCellCarcinoma", "the_basal_cell_carcinoma_2",
    ],
)  # fmt: skip
def test_spellings_of_one_term(text: str) -> None:
    assert found(text) == ["basal cell carcinoma"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Naevi and nevus", ["melanocytic nevus"] * 2),
        ("seborrhoeic keratoses", ["seborrheic keratosis"]),
        ("athlete's foot, athletes foot", ["tinea pedis"] * 2),
        ("superficial spreading melanoma in situ", ["superficial spreading melanoma"]),
        ("scarf, melanomatous, acneic, scaling", []),
        ("an ak and AKs", ["actinic keratosis"]),
        ("a haemangioma", ["hemangioma"]),
        ("Behçet disease", ["Behcet disease"]),
        ("toe-web tinea", ["tinea"]),
        ("plaques. Psoriasis", ["psoriasis"]),
    ],
)
def test_words_are_wholes_and_the_longest_term_counts(text: str, names: list[str]) -> None:
    assert found(text) == names


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("absence of psoriasis", True), ("negative for psoriasis", True), ("free of any psoriasis", True),
        ("lack of psoriasis", True), ("ruled out psoriasis", True), ("non-psoriasis", True),
        ("non-tender psoriasis", False), ("negative network, psoriasis", False),
        ("no psoriasis", True), ("without any sign psoriasis", True), ("denies having had psoriasis", True),
        ("no signs at all of psoriasis", False), ("No scale. Psoriasis", False), ("no scale but psoriasis", False),
        ("not psoriasis", True), ("nodules, psoriasis", False), ("没有银屑病", True), ("不痒，银屑病", False),
    ],
)  # fmt: skip
def test_negation_is_within_three_words_and_a_sentence(text: str, negated: bool) -> None:
    mentions = [mention for mention in lexicon().mentions(text) if mention.term.name == "psoriasis"]
    assert [mention.is_negated for mention in mentions] == [negated]


@pytest.mark.parametrize(
    ("term", "text", "is_there"),
    [("Psoriasis", "old psoriases", True), ("tinea pedis", "tinea of pedis", False), ("", "x", False),
     ("湿疹", "慢性湿疹", True), ("wart", "warty", False)],
)  # fmt: skip
def test_a_term_occurs_word_by_word(term: str, text: str, is_there: bool) -> None:
    assert occurs(term, text) == is_there


def test_no_term_has_two_meanings() -> None:
    """A term under two names of different kinds would be a disease here and a concept there."""
    kinds: dict[tuple[str, ...], str] = {}
    for term, synonyms in lexicon().synonyms.items():
        for synonym in synonyms:
            key = tuple(word_key(word) for word in re.findall(r"\w+", normalised(synonym)))
            assert kinds.setdefault(key, term.kind) == term.kind, synonym


def test_it_knows_a_few_hundred_diseases() -> None:
    diseases = [term for term in lexicon().synonyms if term.kind == DISEASE]
    assert 300 < len(diseases) < 1000
    assert all(term.path for term in diseases)


def test_tables_become_a_lexicon() -> None:
    made = Lexicon({DISEASE: {"wide > narrow": {"zorbitis": "ZB!; zorb disease"}}})
    (term,) = made.synonyms
    assert (term.path, made.synonyms[term]) == (("wide", "narrow"), ("zorbitis", "ZB", "zorb disease"))
    assert [m.term.name for m in made.mentions("zb, ZB, Zorb diseases")] == ["zorbitis"] * 2
    assert made.exact("zorb-disease") == term
    assert made.exact("zorb") is None
    assert json.dumps(term.name)
    assert RAW == "raw"
