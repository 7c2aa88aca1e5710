"""Texts as numbers: of whole words, or of BERT's word pieces (Croitoru et al., section 4.2)."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lerac_experiments.data.reading import as_text, read_file
from lerac_experiments.errors import ExperimentError

if TYPE_CHECKING:
    from tokenizers import AddedToken, BertWordPieceTokenizer

PIECES = 8000
"""Of a vocabulary of word pieces that is learned; our choice, for BERT's own has 30,522 and comes with its weights."""

_WORD = re.compile(r"\w+|[^\w\s]")
_UNKNOWN, _SEPARATOR, _FIRST_WORD = 1, 2, 3
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class Encoded(NamedTuple):
    """A text, or a pair of texts."""

    tokens: list[int]
    second: int
    """Where the second text starts; without one, where the first ends."""


def words(text: str) -> list[str]:
    """Lower-cased words, and punctuation marks one by one."""
    return _WORD.findall(text.lower())


class Words:
    """Whole words: 0 is padding, 1 an unknown word, 2 stands between two texts; then come words by their frequency.

    Args:
        texts: all of whose words make up the vocabulary.
        max_length: of a text, or of a pair with its separator, in tokens. Of longer pairs the longer text is cut first,
            as for BERT, so that a short question or hypothesis is not lost behind a long passage.

    Attributes:
        vocabulary: the number of tokens that there are.
    """

    def __init__(self, texts: Iterable[str], max_length: int) -> None:
        counts = Counter(word for text in texts for word in words(text))
        by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
        self._numbers = {word: number for number, word in enumerate(by_frequency, _FIRST_WORD)}
        self._words: dict[int, str] = {}  # of numbers, once they are asked for
        self._max_length = max_length
        self.vocabulary = _FIRST_WORD + len(self._numbers)

    def __call__(self, first: list[str], second: list[str] | None) -> list[Encoded]:
        if second is None:
            return [self._single(text) for text in first]
        return [self._pair(*pair) for pair in zip(first, second, strict=True)]

    def decode(self, tokens: list[int]) -> str:
        """The words of tokens."""
        if not self._words:
            self._words = {number: word for word, number in self._numbers.items()}
            self._words |= {_UNKNOWN: "[UNK]", _SEPARATOR: "[SEP]"}
        return " ".join(self._words[token] for token in tokens)

    def _numbered(self, text: str) -> list[int]:
        return [self._numbers.get(word, _UNKNOWN) for word in words(text)]

    def _single(self, text: str) -> Encoded:
        tokens = self._numbered(text)[: self._max_length] or [_UNKNOWN]  # a batch has no empty text
        return Encoded(tokens, second=len(tokens))

    def _pair(self, first: str, second: str) -> Encoded:
        before, after = self._numbered(first), self._numbered(second)
        room = self._max_length - 1
        kept = max(room // 2, room - len(after))  # of the first, if it is too long
        before = before[:kept]
        after = after[: room - len(before)]
        return Encoded([*before, _SEPARATOR, *after], second=len(before) + 1)


class WordPieces:
    """[CLS] first [SEP] second [SEP], or [CLS] text [SEP], in lower-cased word pieces as BERT's; of pairs that are
    longer than `max_length` with these, the longer text is cut first.

    Args:
        numbers: the pieces of the vocabulary, and the number of each.

    Attributes:
        vocabulary: the number of tokens that there are.

    Raises:
        ExperimentError: special tokens are missing, or padding is not 0; the message names `source`.
    """

    def __init__(self, numbers: dict[str, int], max_length: int, source: str) -> None:
        from tokenizers import BertWordPieceTokenizer

        missing = [token for token in _SPECIAL[:4] if token not in numbers]
        if missing:
            raise ExperimentError(f"{source} is no vocabulary of BERT's: it has no {', '.join(missing)}")
        if numbers["[PAD]"] != 0:
            raise ExperimentError(f"{source}: [PAD] has the number {numbers['[PAD]']}, and must have 0")
        self._tokenizer = BertWordPieceTokenizer(numbers, lowercase=True)
        self._tokenizer.enable_truncation(max_length, strategy="longest_first")
        self.vocabulary = max(numbers.values()) + 1

    @classmethod
    def read(cls, folder: Path, max_length: int) -> "WordPieces":
        """Those of the vocabulary in `folder`/vocab.txt, one a line. Raises ExperimentError naming a damaged file."""
        path = folder / "vocab.txt"
        lines = as_text(read_file(path), path).split("\n")
        if lines[-1] == "":
            lines.pop()
        return cls({line.rstrip("\r"): number for number, line in enumerate(lines)}, max_length, str(path))

    @classmethod
    def learn(cls, texts: list[str], max_length: int) -> "WordPieces":
        """Those of a vocabulary of at most `PIECES`, learned from texts."""
        from tokenizers import BertWordPieceTokenizer

        learner = BertWordPieceTokenizer(lowercase=True)
        # The trainer would number the characters within words by the random order of a hash table, and choose other
        # pieces each time. It keeps to the order of those that it is given.
        characters = _inner_characters(learner, texts)
        special_tokens: list[str | AddedToken] = [*_SPECIAL, *(f"##{character}" for character in characters)]
        learner.train_from_iterator(iter(texts), vocab_size=PIECES, show_progress=False, special_tokens=special_tokens)
        return cls(learner.get_vocab(), max_length, "the vocabulary learned from the training part")

    def __call__(self, first: list[str], second: list[str] | None) -> list[Encoded]:
        texts: list[Any] = first if second is None else list(zip(first, second, strict=True))
        return list(chain.from_iterable(self._encode(texts[at : at + 1000]) for at in range(0, len(texts), 1000)))

    def decode(self, tokens: list[int]) -> str:
        """The pieces of tokens, joined to words."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))

    def _encode(self, texts: list[Any]) -> list[Encoded]:
        # The second text, and its [SEP], are of type 1.
        return [Encoded(one.ids, second=one.type_ids.count(0)) for one in self._tokenizer.encode_batch(texts)]


def _inner_characters(tokenizer: "BertWordPieceTokenizer", texts: list[str]) -> list[str]:
    """The characters that occur within words, sorted."""
    split, normalize = tokenizer.pre_tokenizer.pre_tokenize_str, tokenizer.normalizer.normalize_str
    distinct = {word for text in texts for word, _ in split(normalize(text))}
    return sorted({character for word in distinct for character in word[1:]})
