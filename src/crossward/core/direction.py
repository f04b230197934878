"""Pairs by the direction of translation, with no reward: Language Imbalance Driven Rewarding (arXiv 2410.08964).

A model answers better in English than elsewhere, so an English answer beats an answer that was given in another
language and translated, and a translated English answer beats a native one. A rival of the implicit reward: no score is
behind these pairs, so chosen has the rating 1 and rejected 0. The published code keeps the English answer as it is
where the instruction is about translation; here such a prompt is like any other.
"""

from crossward.core.records import PreferencePair, Prompt, RatedResponse, Response, Skipped, SkipReason


def english_pair(english: Prompt, answer: Response, translated: Response) -> PreferencePair | Skipped:
    """On the English prompt: the English answer over the other language's answer in English translation."""
    return _pair(english, answer, translated, translation=translated)


def native_pair(prompt: Prompt, translated: Response, answer: Response) -> PreferencePair | Skipped:
    """On the prompt itself: the English answer in translation over the native answer."""
    return _pair(prompt, translated, answer, translation=translated)


def _pair(prompt: Prompt, chosen: Response, rejected: Response, *, translation: Response) -> PreferencePair | Skipped:
    if (reason := _reason(chosen, rejected, translation)) is not None:
        return Skipped(prompt=prompt, reason=reason)
    return PreferencePair(
        prompt=prompt,
        chosen=RatedResponse(response=chosen, rating=1.0, n_tokens=len(chosen.token_ids or ())),
        rejected=RatedResponse(response=rejected, rating=0.0, n_tokens=len(rejected.token_ids or ())),
        alpha=0.0,
        chosen_score=1.0,
        rejected_score=0.0,
    )


def _reason(chosen: Response, rejected: Response, translation: Response) -> SkipReason | None:
    if not translation.text.strip():
        return "untranslated"
    if not chosen.text.strip() or not rejected.text.strip():
        return "empty"
    if "length" in (chosen.finish_reason, rejected.finish_reason):
        return "truncated"
    return "tie" if chosen.text == rejected.text else None
