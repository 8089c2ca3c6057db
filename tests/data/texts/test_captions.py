"""Knowledge texts and subtexts: templates, sources of diseases and concepts, missing is absent."""

import json
from pathlib import Path

import pytest

from magic_cli.data.questions import load_questions
from magic_cli.data.sources.source import CONCEPTS, LABEL_PATH, RAW
from magic_cli.data.texts.captions import KnowledgeOptions, with_knowledge
from magic_cli.data.texts.label_captions import MOST
from magic_cli.data.texts.llm_cache import read_llm_cache
from magic_cli.data.texts.ontology import parts_of, read_ontology
from magic_cli.data.texts.sentences import sentences
from magic_cli.errors import DataError
from magic_cli.records import Case


def made(case: Case, **options: object) -> dict[str, str]:
    """Return role to text of a case with its knowledge texts."""
    texts = with_knowledge(case, KnowledgeOptions(**options)).texts  # type: ignore[arg-type]
    return {role: next(iter(text.values())) for role, text in texts.items()}


def told(text: str, split: str = "train", **fields: object) -> Case:
    return Case("c1", split, ("i1",), {RAW: {"en": text}} if text else {}, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Irritant diaper dermatitis. Erythematous patches sparing the skin folds.",
         ["Irritant diaper dermatitis", "Erythematous patches sparing the skin folds"]),
        ("Plaque of 2.5 cm, e.g. on the knee; scale! itch?\nOozing",
         ["Plaque of 2.5 cm, e.g. on the knee", "scale", "itch", "Oozing"]),
        ("1. Papule. 2. Scale.", ["1. Papule", "2. Scale"]),
        ("S. aureus and Dr. Who vs. eczema. Fig. 3 shows it.", ["S. aureus and Dr. Who vs. eczema", "Fig. 3 shows it"]),
        ("Scale. scale. Scale; ...", ["Scale"]),
        ("Red papules.Brown scale", ["Red papules", "Brown scale"]),
        ("see photo.jpg and the 3 cm. Then none.", ["see photo.jpg and the 3 cm", "Then none"]),
        ("红斑。鳞屑！", ["红斑", "鳞屑"]),
        ("a &amp; b<br>c. </p>", ["a & b c"]),
        ("", []), (" .;. ", []),
    ],
)  # fmt: skip
def test_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_texts_of_a_caption() -> None:
    text = "Psoriasis of the elbow. Erythematous plaques with silvery scale, no crust."
    assert made(told(text)) == {
        "raw": text,
        "disease": "This is a skin photo diagnosed as inflammatory, papulosquamous, psoriasis.",
        "concept": "This skin photo shows erythema, plaque, scale.",
        "subtext-1": "Psoriasis of the elbow",
        "subtext-2": "Erythematous plaques with silvery scale, no crust",
    }


@pytest.mark.parametrize("text", ["", "No psoriasis.", "Hello there"])
def test_what_cannot_be_made_is_absent(text: str) -> None:
    texts = made(told(text))
    assert not {"disease", "concept"} & texts.keys()
    assert all(value and value != "nan" for value in texts.values())


@pytest.mark.parametrize(
    ("label", "path", "words"),
    [
        ("bcc", "malignant > malignant epidermal > bcc", "malignant, malignant epidermal, basal cell carcinoma"),
        ("psoriasis", "non-neoplastic > inflammatory > psoriasis", "non-neoplastic, inflammatory, psoriasis"),
        ("BCC", "", "malignant, epithelial, basal cell carcinoma"),
        ("seborrheic_keratosis", "", "benign, epidermal, seborrheic keratosis"),
        ("zorbitis", "", "zorbitis"),
        ("1", "", ""), ("unknown", "", ""), ("other", "", ""),
    ],
)  # fmt: skip
def test_the_label_counts_before_the_text(label: str, path: str, words: str) -> None:
    case = told("Looks like acne." if words else "", label=label, attributes={LABEL_PATH: path} if path else {})
    assert made(case).get("disease", "") == (f"This is a skin photo diagnosed as {words}." if words else "")


def test_texts_of_the_source_are_kept() -> None:
    own = {RAW: {"en": "Acne."}, "disease": {"en": "own disease"}, "subtext-1": {"en": "own part"}}
    texts = made(Case("c", "train", (), own))
    assert texts == {"raw": "Acne.", "disease": "own disease", "subtext-1": "own part"}


def test_nine_sentences_are_dropped_or_merged() -> None:
    case = told(" ".join(f"Part {number} here." for number in range(10)))
    assert "subtext-9" not in made(case)
    assert made(case)["subtext-8"] == "Part 7 here"
    assert made(case, overflow="merge")["subtext-8"] == "Part 7 here. Part 8 here. Part 9 here"


def test_concepts_of_attributes_and_of_chinese() -> None:
    case = told("", attributes={CONCEPTS: "Plaque; Brown(Hyperpigmentation)"})
    assert made(case) == {"concept": "This skin photo shows plaque, brown(Hyperpigmentation)."}
    chinese = Case("c", "train", (), {RAW: {"zh": "湿疹。红斑,不痒"}})
    assert made(chinese)["concept"] == "This skin photo shows erythema."
    assert "eczema" in made(chinese)["disease"]
    assert with_knowledge(chinese).texts["subtext-1"] == {"zh": "湿疹"}


def test_closed_answers_are_concepts_except_of_split_test() -> None:
    questions = load_questions(None)
    sets = {**questions.empty_sets(), "CQID011": {5, 0}, "CQID025": {1}, "CQID034": {2}, "CQID035": {1}, "CQID015": {2}}
    case = told("", answers=questions.to_slots(sets))
    words = "head, back, onset within weeks, no itch, red, multiple lesions"
    assert made(case, questions=questions) == {"concept": f"This skin photo shows {words}."}
    assert made(told("", split="test", answers=case.answers), questions=questions) == {}


def test_the_challenge_reads_its_clinicians() -> None:
    texts = {"title": {"en": "Is it acne?"}, "response-1": {"en": "Scabies"}, "response-2": {"en": "Treat it. Scabies"}}
    case = Case("ENC1", "train", (), texts, question="Is it acne?", answer="Scabies Treat it. Scabies")
    assert made(case)["raw"] == "Scabies\nTreat it. Scabies"
    assert "scabies" in made(case)["disease"]
    assert made(case)["subtext-2"] == "Treat it"
    alone = Case("ENC1", "test", (), {"title": {"en": "Is it acne?"}}, question="Is it acne?")
    assert made(alone)["raw"] == "Is it acne?"
    assert "disease" not in made(alone)


NESTED = {"inflammatory": {"eczema": ["atopic dermatitis", "zorbitis"]}, "tumour": {"benign": {"nevus": {}}}}
PARENTS = {"zorbitis": "eczema", "eczema": "inflammatory", "inflammatory": None}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(NESTED)),
        ("b.json", json.dumps(PARENTS)),
        ("c.csv", "child,parent\nzorbitis,eczema\neczema,inflammatory\n"),
        ("d.csv", "\ufeffparent;child\neczema;zorbitis\ninflammatory;eczema\n"),
    ],
)
def test_ontologies(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    ontology = read_ontology(tmp_path / name)
    assert ontology.path("Zorbitis") == ("inflammatory", "eczema", "zorbitis")
    text = made(told("", label="zorbitis"), ontology=ontology)["disease"]
    assert text == "This is a skin photo diagnosed as inflammatory, eczema, zorbitis."


def test_an_ontology_knows_synonyms(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps(NESTED))
    disease = made(told("A mole."), ontology=read_ontology(tmp_path / "o.json"))["disease"]
    assert disease == "This is a skin photo diagnosed as tumour, benign, nevus."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "{"), ("b.json", "[]"), ("c.json", '{"a": 1}'), ("d.json", '{"a": "b", "b": "a"}'),
        ("e.csv", "x,y\n1,2\n"), ("f.csv", "child,parent\na\n"), ("g.csv", "child,parent\na,b\nb,a\n"),
        ("h.json", '"acne"'), ("i.json", '{"a": {"": {}}}'), ("j.csv", ""), ("k.csv", "child,parent\n,b\n"),
        ("l.json", json.dumps({"a": 1}).replace("1", "[" * 60 + "]" * 60)), ("missing.json", None), ("m.csv", None),
    ],
)  # fmt: skip
def test_a_damaged_ontology_is_one_line(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as error:
        read_ontology(tmp_path / name)
    assert len(error.value.problems) == 1
    assert name in error.value.problems[0]


def test_paths_of_sources() -> None:
    assert parts_of("a > b>c") == parts_of("a | b; c") == ("a", "b", "c")
    assert parts_of("") == ()


def write_cache(folder: Path, *rows: object) -> Path:
    path = folder / "cache.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_answers_of_a_language_model(tmp_path: Path) -> None:
    rows = (
        {"case_id": "c1", "disease": "Acne", "concepts": ["plaque", "shimmer", "not there"]},
        {"image_id": "nobody", "disease": "[No definitive diagnosis]", "concepts": "[No matching attributes]"},
    )
    answers = read_llm_cache(write_cache(tmp_path, *rows))
    texts = made(told("Psoriasis, psoriasis, or acne with shimmer."), answers=answers)
    assert texts["disease"] == "This is a skin photo diagnosed as inflammatory, acneiform, acne."
    assert texts["concept"] == "This skin photo shows plaque, shimmer."
    assert (answers.refused, answers.used) == (1, {"c1"})
    notes = answers.notes()
    assert len(notes) == 3
    assert "1 answer is for an id" in notes[1]
    answers.restart()
    assert not answers.used


@pytest.mark.parametrize("none", ["[No definitive diagnosis]", "no definitive diagnosis.", None, "nan", [], "scabies"])
def test_no_answer_means_none_and_is_no_text(tmp_path: Path, none: object) -> None:
    """A disease that the text does not name is refused."""
    row = {"image_id": "i1", "disease": none, "concepts": "[No matching attributes]"}
    texts = made(told("Psoriasis plaque."), answers=read_llm_cache(write_cache(tmp_path, row)))
    assert not {"disease", "concept"} & texts.keys()


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[1]",
        {"disease": "acne"},
        {"case_id": ["x"]},
        {"case_id": "c", "disease": 3},
        {"case_id": "c", "concepts": {}},
    ],
)
def test_a_damaged_cache_is_one_line_with_its_number(tmp_path: Path, row: object) -> None:
    with pytest.raises(DataError, match=r"cache\.jsonl:2") as error:
        read_llm_cache(write_cache(tmp_path, {"case_id": "ok"}, row))
    assert len(error.value.problems) == 1


def test_a_cache_contradicts_itself_or_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="twice"):
        read_llm_cache(write_cache(tmp_path, {"case_id": "c", "disease": "acne"}, {"case_id": "c", "disease": None}))
    with pytest.raises(DataError, match="no file"):
        read_llm_cache(tmp_path / "none.jsonl")


@pytest.mark.parametrize("text", ["nan", "[No definitive diagnosis]", "No matching attributes.", "<b>N/A</b>", " "])
def test_a_caption_that_says_nothing_makes_nothing(text: str) -> None:
    """It stays as the raw text, and is no sentence."""
    case = with_knowledge(Case("c", "train", ("i",), texts={"raw": {"en": text}}))
    assert case.texts == {"raw": {"en": text}}


def test_captions_of_a_label_where_there_is_no_text() -> None:
    texts = made(told("", label="melanocytic_nevus"), label_captions=3)
    captions = [texts[role] for role in (RAW, "subtext-1", "subtext-2")]
    assert len(set(captions)) == 3
    assert all("melanocytic nevus" in caption.casefold() for caption in captions)
    assert "subtext-3" not in texts
    others = {made(Case(f"c{n}", "train", (), label="nevus"), label_captions=1)[RAW] for n in range(40)}
    assert len(others) == MOST  # the captions of a class are not all alike
    assert made(told("A red plaque.", label="nevus"), label_captions=3)[RAW] == "A red plaque."
    assert made(told("", label="unknown"), label_captions=3) == {}
    assert RAW not in made(told("", label="nevus"))
