"""English questions as statements that their answers complete: "What is he holding?" -> "he is holding a {}".

A model of images and texts knows captions, not questions (TAP-C, Song et al., ACL 2022, section 3.2). The rules are
few; a question that fits none, or is too long, stays as it is, with the answer behind it.
"""

from __future__ import annotations

import re

_MAX_CHARACTERS = 300  # of a question that is turned; the rules take cubic time
YES_NO = re.compile(r"^(is|are|was|were|do|does|did|can|could|has|have|will|would)(?:n?['\u2019]t)?\b", re.IGNORECASE)
_BE = r"(is|are|was|were)"
_PLACE = r"(?:in|on|at|under|above|below|behind|beside|near|inside|over|between|among|around|next to|in front of|with)"
_LAST = r"(in|on|at|to|for|with|from|of|under|over|into|about|behind|near)"  # what an open question may end in
_KIND = r"(?:what|which) (?:\w+ of )?\w+"
# -ing at the end of a noun is no verb
_VERB = r"(?!(?:building|ceiling|thing|ring|king|wing|string|painting|clothing|evening|morning|spring|swing)\b)(\w+ing)"
_SUBJECT = (
    r"((?:this|that|these|those)(?= (?:a|an|the)\b)|(?:the|a|an|his|her|their|my|your|any|this|that|these|those) \w+"
    r"|it|he|she|they|you|everyone|everybody|everything|anyone|someone|something)"
)
_ACTOR = r"(it|he|she|they|we|you|this|that|anyone|someone|everyone|\w+ \w+.*?)"
_ADDS_S = (
    "(appear|belong|contain|drink|drive|eat|face|feel|hang|hold|jump|lean|lie|like|live|look|make|move|need|open|play"
    "|read|ride|run|seem|show|sit|sleep|smile|stand|swim|take|throw|use|walk|want|wear|work|write)"
)
_OPEN = (
    (rf"(?:what|which) colou?rs? {_BE} (.+)", r"\2 \1 {}"),
    (rf"what {_BE} (.+) doing", r"\2 \1 {}"),
    (rf"(?:what|{_KIND}) {_BE} {_ACTOR} {_VERB}(.*) {_LAST}", r"\2 \1 \3\4 \5 a {}"),
    (rf"{_KIND} {_BE} (.+?) {_VERB}(.*)", r"\2 \1 \3 a {}\4"),
    (rf"{_KIND} {_BE} (this|that|it|these|those|the .+)", r"\2 \1 a {}"),
    (rf"what {_BE} (?!(?:the|a|an) \w+$)(.+?) {_VERB}(.*)", r"\2 \1 \3 a {}\4"),
    (rf"what {_BE} {_VERB}(.*)", r"a {} \1 \2\3"),
    (rf"what {_BE} ({_PLACE} .+)", r"there \1 a {} \2"),
    (rf"what {_BE} (.+)", r"\2 \1 a {}"),
    (rf"where {_BE} {_ACTOR} (taken|shot|made|seen|parked|{_VERB})", r"\2 \1 \3 in the {}"),
    (rf"where {_BE} (.+)", r"\2 \1 in the {}"),
    (rf"who {_BE} (.+)", r"the {} \1 \2"),
    (r"how many (.+?) (?:is|are|was|were|do|does|can|has|have)\b.*", r"there are {} \1"),
)
_CLOSED = (
    (rf"{_BE} there (?:any )?(.+)", r"there \1 \2"),
    (rf"{_BE} (.+?) {_VERB}(.*)", r"\2 \1 \3\4"),
    (rf"{_BE} (.+?) ({_PLACE} .+)", r"\2 \1 \3"),
    (rf"{_BE} {_SUBJECT} (.+)", r"\2 \1 \3"),
    (r"can (?:you|we|i|one) see (.+)", r"there is \1"),
    (rf"does {_SUBJECT} have (.+)", r"\1 has \2"),
    (rf"does {_ACTOR} {_ADDS_S}\b(.*)", r"\1 \2s\3"),
    (rf"does {_ACTOR} (catch|cross|go|pass|reach|touch|watch)\b(.*)", r"\1 \2es\3"),
    (rf"does {_ACTOR} (carr|fl|tr)y\b(.*)", r"\1 \2ies\3"),
    (rf"(?:do|does|did) {_SUBJECT} (.+)", r"\1 \2"),
    (rf"(can|could|has|have|will|would) {_SUBJECT} (.+)", r"\2 \1 \3"),
)


def is_yes_no(question: str) -> bool:
    """Whether the question can be answered by yes or no, as far as its first word tells."""
    return bool(YES_NO.match(question.strip()))


def statement_of(question: str) -> str:
    """A statement with {} where the answer belongs."""
    return _turned(question, _OPEN) or f"{question.strip()} {{}}"


def affirmed(question: str) -> str | None:
    """What a yes to the question, "isn't it?" too, states; None for a question that no rule fits."""
    return _turned(YES_NO.sub(r"\1", question.strip(), count=1), _CLOSED)


def _turned(question: str, rules: tuple[tuple[str, str], ...]) -> str | None:
    if len(question) > _MAX_CHARACTERS:
        return None
    plain = " ".join(question.split()).rstrip("?!. ")
    plain = plain[:1].lower() + plain[1:]
    for pattern, statement in rules:
        if found := re.fullmatch(pattern, plain, re.IGNORECASE):
            return found.expand(statement)
    return None
