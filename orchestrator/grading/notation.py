"""A response's three notations told apart before anything is read from it.

`visible` takes off what is not the answer's own text: end-of-turn tokens and what follows them, channels,
reasoning tags, answer tags, HTML. `told_apart` then marks LaTeX's formulas and Markdown's bold with
characters of Unicode's private use area, so that in what remains a dollar sign is money and an asterisk a
product.
"""

from __future__ import annotations

import re

OPEN, CLOSE = "\ue000", "\ue001"  # around a formula
BOLD, UNBOLD = "\ue002", "\ue003"

_WIDE = str.maketrans(
    {chr(0xFF10 + i): str(i) for i in range(10)}
    | {chr(0xFF21 + i): chr(65 + i) for i in range(26)}
    | {chr(0xFF41 + i): chr(97 + i) for i in range(26)}
    | dict(zip("：，；（）＝＋－％＄．／！？［］", ":,;()=+-%$./!?[]", strict=True))
    | {"。": ". ", "、": ", ", "−": "-", "–": "-", "‑": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "}
    | dict.fromkeys((OPEN, CLOSE, BOLD, UNBOLD, "\u200b"), None)
)

_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\b[^<]{0,40}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>")
_SPOKEN_CHANNEL = re.compile(r"\s*analysis(?=[A-Z\s'\"])")  # the same where special tokens were skipped
_TURN = r"(?:assistant|model|user|system)"
_START = re.compile(
    rf"""\s*(?:(?:<\|(?:im_start|start)\|>|<start_of_turn>)\s*{_TURN}?|<\|start_header_id\|>\s*{_TURN}\s*<\|end_header_id\|>
      |<s>|<bos>|<\|(?:begin_of_text|assistant|startoftext)\|>|<｜(?:begin▁of▁sentence|Assistant)｜>|\[/INST\])\s*""",
    re.VERBOSE,
)
_END = re.compile(
    r"""<\|(?:im_end|im_start|eot_id|eom_id|end_of_text|endoftext|end|return|call|end_of_turn|endofturn
      |END_OF_TURN_TOKEN|start|user|system|start_header_id)\|>
      |</s>|<｜(?:end▁of▁sentence|User)｜>|<\|?end_of_(?:turn|sentence)\|?>|<eos>|<pad>|\[/?INST\]|<start_of_turn>""",
    re.VERBOSE,
)
_ANSWER_TAG = re.compile(r"<(/?)\s*(?:final[_ ]?)?(?:answer|ans)\s*>", re.IGNORECASE)
_TAG = re.compile(  # only with what can be an attribute, since "a<b" and "c>0" make no tag
    r"""</?(?:b|i|u|em|strong|p|br|span|div|code|center|font|li|ul|ol|h[1-6]|pre|response|output|solution
      |final|result|assistant|reasoning|conclusion)
      (?:\s{1,3}[A-Za-z-]{1,20}=(?:"[^"<>]{0,80}"|'[^'<>]{0,80}'|[\w\#%.-]{1,40})){0,6}\s{0,3}/?>|<\|[a-zA-Z_]{1,30}\|>|<｜[^｜<>]{1,40}｜>""",
    re.IGNORECASE | re.VERBOSE,
)
_RAISED = re.compile(r"<sup>\s*([\w+-]{1,20})\s*</sup>", re.IGNORECASE)

# Two dollar signs are a formula's unless what they enclose is prose, or they stand as amounts do: a digit
# after the second, or a space inside at one end only ("$520 - $480").
_FORMULA = re.compile(
    r"\$\$(?P<dd>.{1,1000}?)\$\$|\\\[(?P<db>(?:(?!\\\[).){1,1000}?)\\\]|\\\((?P<ip>(?:(?!\\\().){1,1000}?)\\\)"
    r"|(?<![\\$])\$(?P<id>(?:\\.|[^$\n\\]){1,400}?)\$(?![ ]?\d)",
    re.DOTALL,
)
_WORDS = re.compile(r"(?<![A-Za-z])[A-Za-z]{2,}+[,;]?\s++[A-Za-z]{2}")
_COMMAND = re.compile(r"\\[A-Za-z]+\s*(?:\{[^{}]*\})?")
_BOLD = re.compile(r"(?<![\w*])\*{2,3}(?=[^\s*])([^*\n]{1,300}?)(?<=[^\s*])\*{2,3}")
_BOLD_ = re.compile(r"(?<!\w)__(?=[^\s_])([^_\n]{1,300}?)(?<=[^\s_])__(?!\w)")
_ITALIC = re.compile(
    r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,200}?)(?<=[^\s*])\*(?![\w*])|(?<!\w)_(?=[^\s_])([^_\n]{1,200}?)(?<=[^\s_])_(?!\w)"
)
_STRUCK = re.compile(r"~~(?=\S)[^~\n]{1,300}~~")
_TICKS = re.compile(r"`{1,3}(?:[a-z]+\n)?")


def narrow(text: str) -> str:
    """With full-width characters, dashes and spaces in their plain form."""
    return text.translate(_WIDE)


def visible(text: str) -> str:
    """The answer's own text: without special tokens, without what a run-on generation wrote after its end of
    turn, of several channels the final one, and of an answer in ``<answer>`` tags what stands in them."""
    text = narrow(text)
    if "<" in text or "assistantfinal" in text or "[/INST]" in text:
        text = _untagged(text)
    return text


def _untagged(text: str) -> str:
    if "<|channel|>" in text:
        finals = list(_FINAL_CHANNEL.finditer(text))
        text = text[finals[-1].end() :] if finals else ""
    elif _SPOKEN_CHANNEL.match(text):
        text = text.rpartition("assistantfinal")[2]
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    text = text.partition("<think>")[0]
    position = 0
    while start := _START.match(text, position):
        position = start.end()
    text = text[position:]
    for end in _END.finditer(text):
        if text[: end.start()].strip():
            text = text[: end.start()]
            break
    return _TAG.sub(" ", _RAISED.sub(r"^{\1}", _in_answer_tags(_END.sub(" ", text))))


def _in_answer_tags(text: str) -> str:
    end = len(text)
    for tag in reversed(list(_ANSWER_TAG.finditer(text))):
        if not tag[1] and (inside := text[tag.end() : end].strip()):
            return f"Answer: {inside}" if "\n" not in inside else inside
        end = tag.start()
    return _ANSWER_TAG.sub(" ", text)


def told_apart(text: str) -> str:
    """The text with its formulas between `OPEN` and `CLOSE`, bold between `BOLD` and `UNBOLD`, other emphasis
    and struck-out text gone; every dollar sign left is money."""
    pieces, formulas, position, end = [], [], 0, 0
    while match := _FORMULA.search(text, position):
        content = next(group for group in match.groups() if group is not None)
        if match.group("id") is not None and not _is_formula(content):
            position = match.start() + 1
            continue
        pieces.append(text[end : match.start()])
        formulas.append(f"{OPEN}{content.strip()}{CLOSE}")
        position = end = match.end()
    pieces.append(text[end:])
    plain = OPEN.join(pieces).replace("\\$", "$")
    if "*" in plain or "_" in plain or "`" in plain or "~~" in plain:
        for pattern in (_BOLD, _BOLD_):
            plain = pattern.sub(rf"{BOLD}\1{UNBOLD}", plain)
        plain = _TICKS.sub("", _ITALIC.sub(lambda m: m[1] or m[2], _STRUCK.sub("", plain)))
    kept = iter(formulas)
    return re.sub(OPEN, lambda _: next(kept), plain)


def without_bold(text: str) -> str:
    return text.replace(BOLD, "").replace(UNBOLD, "")


def _is_formula(content: str) -> bool:
    if is_prose(content) or not content.strip():
        return False
    return content[0].isspace() == content[-1].isspace() and content[-1] not in "+*/=-("


def closing_brace(text: str, start: int, stop: int | None = None) -> int:
    """Where the group ends whose brace is at ``start``; -1 where it does not before ``stop``."""
    depth = 0
    for i in range(start, len(text) if stop is None else min(len(text), stop)):
        if text[i] in "{}" and text[i - 1 : i] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return i
    return -1


def is_prose(text: str) -> bool:
    """Whether two words follow one another outside LaTeX's commands."""
    return _WORDS.search(_COMMAND.sub(" ", text)) is not None
