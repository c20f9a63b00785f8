"""Does an answer say who wrote it? 'As Claude, I ...', 'I am ChatGPT', 'an AI developed by ...' undo blindness.

A flag for leads, not a filter: the rules are few and plain, and a text about a model is not a text by one.
Left out on purpose: style, by which people recognise models too.
"""

import re
from collections.abc import Iterable

from posttrain.store.rows import TaskItem

NAMES = (
    "chatgpt", "gpt-?[2-9][a-z0-9.-]*", "claude", "gemini", "bard", "llama", "mistral", "mixtral", "qwen", "deepseek",
    "grok", "copilot", "bing chat", "command r", "olmo", "phi-[0-9]", "gemma", "vicuna", "alpaca", "tulu", "zephyr",
    "pythia", "falcon", "open ?assistant", "kimi", "ernie", "yi-[0-9]", "smollm[0-9]?",
)  # fmt: skip
MAKERS = (
    "openai", "anthropic", "google", "deepmind", "meta(?: ai)?", "facebook", "microsoft", "mistral(?: ai)?", "alibaba",
    "deepseek", "xai", "cohere", "nvidia", "amazon", "apple", "baidu", "moonshot", "ai2", "the allen institute",
    "eleuther ?ai", "hugging ?face", "stability(?: ai)?",
)  # fmt: skip
_name, _maker = rf"(?:{'|'.join(NAMES)})\b", rf"(?:{'|'.join(MAKERS)})\b"
_machine = r"(?:ai|artificial intelligence|language model|assistant|chatbot|llm|model)"
RULES = re.compile(
    rf"\bas {_name}"
    rf"|\b(?:i am|i'm|i’m|my name is|i was called|call me|this is) (?:an? )?(?:\w+ ){{0,3}}{_name}"
    rf"|\b{_machine}\W+(?:\w+ ){{0,4}}?(?:called|named) (?:\w+ )?{_name}"
    rf"|\b(?:i|me|{_machine})\b[^.!?\n]{{0,60}}\b(?:developed|created|trained|made|built|designed) by (?:\w+ )?{_maker}"
    rf"|\b(?:developed|created|trained|made|built|designed) by (?:\w+ )?{_maker},? (?:and )?(?:i|my)\b",
    re.IGNORECASE,
)


def leak(text: str, models: tuple[str, ...] = ()) -> str | None:
    """The words that name a model, or None. models: names of the compared models; each counts where it stands alone."""
    found = RULES.search(text)
    if found:
        return found.group(0)
    for model in models:
        name = model.rstrip("/").rpartition("/")[2]
        said = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text, re.IGNORECASE) if len(name) > 2 else None
        if said and re.search(r"\d|-", name):  # 'sft' or 'base' are words; 'qwen3-0.6b' is not
            return said.group(0)
    return None


def leaks(item: TaskItem) -> bool:
    """Whether an answer of the item names a model."""
    models = tuple(c.model for c in item.answers if c.model)
    return any(leak(c.text, models) for c in item.answers)


def leaky(items: Iterable[TaskItem]) -> list[str]:
    """Ids of the items in which an answer names a model."""
    return [item.id for item in items if leaks(item)]


def told(items: Iterable[TaskItem]) -> str:
    """What a lead should know of items just imported: which of them have an answer that names its model; '' if none."""
    found = leaky(items)
    more = f" and {len(found) - 3:,} more" if len(found) > 3 else ""
    return f"an answer seems to name its model in {', '.join(found[:3])}{more}" if found else ""
