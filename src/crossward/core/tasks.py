"""Multiple-choice benchmarks by language: which task of lm-evaluation-harness measures what, and how to average.

The map is of lm-eval 0.4.13: ARC, HellaSwag, MMLU and TruthfulQA, in English and in the okapi machine translations of
them. Where a benchmark does not exist in a language that is a value with other benchmarks in its place, never a task of
another language. Averages carry two standard errors: languages as independent samples, and clustered by question, since
translations of one question are not independent. Knows no model and no library.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose, sqrt
from typing import Literal, get_args

from crossward.core.language import language_name

Benchmark = Literal["arc", "hellaswag", "mmlu", "truthfulqa"]
BENCHMARKS: tuple[Benchmark, ...] = get_args(Benchmark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A task to run. `measure` names what its scores are averaged with: the same benchmark in other languages."""

    measure: str
    language: str | None
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A benchmark that lm-eval does not have in a language; `alternatives` are tasks of *other* benchmarks in it."""

    benchmark: str
    language: str
    alternatives: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A metric's value (accuracies: 0 to 1) and its standard error, None where there is none (a single item)."""

    value: float
    standard_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What a model scored on one task.

    n: questions. shots: examples before each (what the task really took). truncated: options whose text was longer than
    the model's context, so that its beginning was cut. questions: the data's own id of every question, and items: a
    metric's value on each, in the same order; both empty where a task has no ids or is a group of tasks.
    """

    task: str
    version: str
    n: int
    shots: int
    truncated: int
    scores: Mapping[str, Score]
    questions: tuple[str, ...] = ()
    items: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """A value over languages and its standard errors; `clustered` is None where no question is known to be shared."""

    value: float
    standard_error: float | None
    clustered: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A metric over languages: every language counts the same (`by_language`), or every question does (`by_item`).

    mean_of_errors: the mean of the languages' standard errors, which is no standard error of the average.
    shared_questions: ids that occur in two languages or more.
    """

    languages: tuple[str, ...]
    n: int
    shared_questions: int
    by_language: Average
    by_item: Average
    mean_of_errors: float | None


_OKAPI = "ar bn ca da de es eu fr gu hi hr hu hy id it kn ml mr ne nl pt ro ru sk sr sv ta te uk vi"
_LANGUAGES: dict[Benchmark, frozenset[str]] = {
    "arc": frozenset([*_OKAPI.split(), "en", "zh"]),
    "hellaswag": frozenset([*_OKAPI.split(), "en"]),
    "mmlu": frozenset([*_OKAPI.split(), "en", "is", "nb", "zh"]),
    "truthfulqa": frozenset([*_OKAPI.split(), "en", "zh"]),
}
_PATTERNS: dict[Benchmark, tuple[tuple[str, str], ...]] = {  # measure, task
    "arc": (("arc", "arc_{language}"),),
    "hellaswag": (("hellaswag", "hellaswag_{language}"),),
    "mmlu": (("mmlu", "m_mmlu_{language}"),),
    "truthfulqa": (("truthfulqa_mc1", "truthfulqa_{language}_mc1"), ("truthfulqa_mc2", "truthfulqa_{language}_mc2")),
}
_ENGLISH = {
    "arc": "arc_challenge",
    "hellaswag": "hellaswag",
    "truthfulqa_mc1": "truthfulqa_mc1",
    "truthfulqa_mc2": "truthfulqa_mc2",
}
METRICS = {
    "arc": ("acc", "acc_norm"),
    "hellaswag": ("acc", "acc_norm"),
    "mmlu": ("acc",),
    "truthfulqa_mc1": ("acc",),
    "truthfulqa_mc2": ("acc",),
}
NOTES: dict[Benchmark, str] = {
    "arc": "ARC-Challenge; examples from its train split; okapi's lose what stands in square brackets",
    "hellaswag": "translated, examples come from the scored split (there is no train); [what is in brackets] is cut",
    "mmlu": "all subjects as one task (English too: m_mmlu_en); examples are the first rows of its train split",
    "truthfulqa": "six fixed English examples stand before every question, in every language; English takes no --shots",
}

# Other benchmarks, by what their task names are made of.
_FAMILIES = {
    "global_mmlu_full_{language}": "am ar bn cs de el en es fa fr ha he hi id ig it ja ko ky lt mg ms ne nl ny pl pt "
    "ro ru si sn so sr sv sw te tr uk vi yo zh",
    "xcopa_{language}": "et id it sw ta th tr vi zh",
    "xnli_{language}": "ar bg de el en es fr hi ru sw th tr ur vi zh",
    "xstorycloze_{language}": "ar en es hi id my ru sw te zh",
}
_BELEBELE = {
    "af": "afr_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "bg": "bul_Cyrl", "bn": "ben_Beng", "ca": "cat_Latn",
    "cs": "ces_Latn", "da": "dan_Latn", "de": "deu_Latn", "el": "ell_Grek", "en": "eng_Latn", "es": "spa_Latn",
    "et": "est_Latn", "eu": "eus_Latn", "fa": "pes_Arab", "fi": "fin_Latn", "fr": "fra_Latn", "gu": "guj_Gujr",
    "ha": "hau_Latn", "he": "heb_Hebr", "hi": "hin_Deva", "hr": "hrv_Latn", "hu": "hun_Latn", "hy": "hye_Armn",
    "id": "ind_Latn", "ig": "ibo_Latn", "is": "isl_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "ka": "kat_Geor",
    "kk": "kaz_Cyrl", "km": "khm_Khmr", "kn": "kan_Knda", "ko": "kor_Hang", "lo": "lao_Laoo", "lt": "lit_Latn",
    "lv": "lvs_Latn", "ml": "mal_Mlym", "mr": "mar_Deva", "ms": "zsm_Latn", "my": "mya_Mymr", "nb": "nob_Latn",
    "ne": "npi_Deva", "nl": "nld_Latn", "pa": "pan_Guru", "pl": "pol_Latn", "pt": "por_Latn", "ro": "ron_Latn",
    "ru": "rus_Cyrl", "si": "sin_Sinh", "sk": "slk_Latn", "sl": "slv_Latn", "so": "som_Latn", "sr": "srp_Cyrl",
    "sv": "swe_Latn", "sw": "swh_Latn", "ta": "tam_Taml", "te": "tel_Telu", "th": "tha_Thai", "tl": "tgl_Latn",
    "tr": "tur_Latn", "uk": "ukr_Cyrl", "ur": "urd_Arab", "vi": "vie_Latn", "xh": "xho_Latn", "yo": "yor_Latn",
    "zh": "zho_Hans", "zu": "zul_Latn",
}  # fmt: skip
_OTHERS = {
    "sw": ("mmmlu_sw_ke", "afrimmlu_direct_swa_prompt_1"),
    "zh": ("mmmlu_zh_cn", "cmmlu", "ceval-valid"),
}


def covered(benchmark: Benchmark, language: str) -> tuple[Planned, ...] | Absent:
    """The tasks that measure a benchmark in a language (two for TruthfulQA). Raises ValueError for an unknown code."""
    language_name(language)
    if language not in _LANGUAGES[benchmark]:
        return Absent(benchmark=benchmark, language=language, alternatives=alternatives(language))
    return tuple(
        Planned(measure=measure, language=language, task=_task(measure, pattern, language))
        for measure, pattern in _PATTERNS[benchmark]
    )


def covered_languages() -> tuple[str, ...]:
    """Every language that has at least one of the benchmarks."""
    return tuple(sorted(frozenset.union(*_LANGUAGES.values())))


def alternatives(language: str) -> tuple[str, ...]:
    """Tasks of other benchmarks in a language, some of them groups of tasks; empty where none is known here."""
    family = [name.format(language=language) for name, codes in _FAMILIES.items() if language in codes.split()]
    belebele = [f"belebele_{_BELEBELE[language]}"] if language in _BELEBELE else []
    return (*family, *belebele, *_OTHERS.get(language, ()))


def question_ids(documents: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """The data's own id of every question, by which translations of one question are known to be of one.

    Empty where no field of that kind is there for all questions and different for each: a place in the file is no id,
    as translated sets leave out different questions.
    """
    for field in ("id", "ind"):  # in the data of ARC and MMLU, and of HellaSwag; TruthfulQA has none
        ids = [document.get(field) for document in documents]
        if all(isinstance(value, str | int) for value in ids) and len(set(ids)) == len(ids):
            return tuple(map(str, ids))
    return ()


def pooled(results: Mapping[str, TaskResult], metric: str) -> Pooled:
    """A metric's average over languages (keys of `results`), equally weighted and weighted by questions.

    With w_ℓ = 1/L, or n_ℓ/Σn, the average is Σ w_ℓ·m_ℓ, and with independent languages its standard error is

        sqrt(Σ (w_ℓ·se_ℓ)²)                        for w_ℓ = 1/L: sqrt(Σ se_ℓ²)/L

    (0.3 ± 0.03 and 0.5 ± 0.04: 0.4 ± 0.025). The paper's Table 4 shows the mean of the languages' errors (here 0.035),
    which is sqrt(L) times too large for independent languages of one size.

    But the languages' questions are translations of one another, and a question that is hard is hard in all of them.
    Clustered by question q, with what each answer adds to the average,

        sqrt(Σ_q (Σ_{i ∈ q} w_ℓ/n_ℓ · sqrt(n_ℓ/(n_ℓ − 1)) · (y_i − m_ℓ))²)

    which equals the first where no question is shared, and the standard error of the mean over questions of their own
    means where every question is in every language. It is None where a language has no ids of questions, no id occurs
    in two languages, or the value is not the mean of its items.
    """
    languages = tuple(results)
    sizes = {language: results[language].n for language in languages}
    total = sum(sizes.values())
    errors = [results[language].scores[metric].standard_error for language in languages]
    known = [error for error in errors if error is not None]
    counts = Counter(question for result in results.values() for question in set(result.questions))
    return Pooled(
        languages=languages,
        n=total,
        shared_questions=sum(count > 1 for count in counts.values()),
        by_language=_average(results, metric, {language: 1 / len(languages) for language in languages}),
        by_item=_average(results, metric, {language: size / total for language, size in sizes.items()}),
        mean_of_errors=sum(known) / len(known) if len(known) == len(errors) else None,
    )


def _average(results: Mapping[str, TaskResult], metric: str, weights: Mapping[str, float]) -> Average:
    scores = {language: result.scores[metric] for language, result in results.items()}
    parts = [
        weights[language] * score.standard_error
        for language, score in scores.items()
        if score.standard_error is not None
    ]
    return Average(
        value=sum(weights[language] * score.value for language, score in scores.items()),
        standard_error=sqrt(sum(part * part for part in parts)) if len(parts) == len(scores) else None,
        clustered=_clustered(results, metric, weights),
    )


def _clustered(results: Mapping[str, TaskResult], metric: str, weights: Mapping[str, float]) -> float | None:
    sums: defaultdict[str, float] = defaultdict(float)
    n_items = 0
    for language, result in results.items():
        items, value, n = result.items.get(metric, ()), result.scores[metric].value, len(result.questions)
        if n < 2 or len(items) != n or not isclose(sum(items) / n, value, abs_tol=1e-9):
            return None
        step = weights[language] / n * sqrt(n / (n - 1))
        for question, item in zip(result.questions, items, strict=True):
            sums[question] += step * (item - value)
        n_items += n
    return sqrt(sum(part * part for part in sums.values())) if len(sums) < n_items else None


def _task(measure: str, pattern: str, language: str) -> str:
    return _ENGLISH[measure] if language == "en" and measure in _ENGLISH else pattern.format(language=language)
