"""What mmsegmentation publishes: the models of its index whose decode head is PSPHead, as its package lists them.

Reads the package's metafiles and the text of its configs, and imports neither mmsegmentation nor torch; how a card
is made of an entry is derived_card.py's business.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from pspnet_convert.cards.config_text import ConfigTexts
from pspnet_convert.distributions import providers
from pspnet_convert.errors import DependencyError

HEAD = "PSPHead"
# `<what>_<date>_<time>-<first eight hex digits of the SHA-256>.pth`
_WEIGHTS = re.compile(r"(?P<words>.+)_\d{8}_\d{6}-(?P<digest>[0-9a-f]{8})\.pth")
# The C loader reads the same YAML ten times as fast, and is not part of every PyYAML.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Published:
    """A model of the index. `config` is a file below mmsegmentation's configs, `crop_size` height and width.

    `metrics` are per cent, by the index's names. `url` is the checkpoint's, as it can be asked for; `stated_url` is
    what the index has, another where that has a host of its own. `licence` is in the index's words.
    """

    name: str
    config: str
    dataset: str
    backbone: str
    crop_size: tuple[int, int]
    metrics: Mapping[str, float]
    url: str
    stated_url: str
    papers: tuple[str, ...]
    licence: str

    @property
    def file_name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def digest_prefix(self) -> str | None:
        """The first eight hex digits of the checkpoint's SHA-256, which end its file's name."""
        found = _WEIGHTS.fullmatch(self.file_name)
        return found["digest"] if found else None


def package_folder() -> Path:
    """Where mmsegmentation keeps its index and configs; DependencyError if it is not installed."""
    spec = importlib.util.find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise DependencyError("mmsegmentation is not installed", "Install pspnet-convert with its dependencies.")
    return Path(spec.origin).parent / ".mim"


def published(folder: Path | None = None) -> list[Published]:
    """All models with PSPNet's head, in the index's order, each under a name of its own.

    `folder` holds model-index.yml and is the installed package's if None. DependencyError where it has no index.
    """
    folder = folder or package_folder()
    index = folder / "model-index.yml"
    if not index.is_file():
        raise DependencyError(f"{index}: mmsegmentation comes without its model index", "Install it by pip.")
    texts = ConfigTexts()
    heads: list[Path] = []  # the configs with PSPNet's head
    entries: list[dict[str, Any]] = []
    collections: dict[str, dict[str, Any]] = {}
    for metafile in (folder / name for name in _read(index)["Import"]):
        here = [path for path in sorted(metafile.parent.glob("*.py")) if _is_pspnet(texts, path)]
        if here:  # a metafile tells of the configs beside it; the others need not be read
            heads += here
            content = _read(metafile)
            collections.update((one["Name"], one) for one in content.get("Collections", []))
            entries += [entry for entry in content["Models"] if folder / entry["Config"] in here]
    entries = list(_told_apart(entries, [path.relative_to(folder).as_posix() for path in heads]))
    host = _usual_host(entries)
    return [_published(entry, collections, host, texts, folder) for entry in entries]


def _read(path: Path) -> Any:
    return yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 (the C form of the safe loader)


def _is_pspnet(texts: ConfigTexts, path: Path) -> bool:
    return texts.value(path, "model", "decode_head", "type") == HEAD


def _told_apart(entries: Sequence[dict[str, Any]], configs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The entries, each with the config that it was trained by.

    Where the index names one config twice, one of the two is wrong: then what the weights' file name says decides.
    """
    times = Counter(entry["Config"] for entry in entries)
    for entry in entries:
        if times[entry["Config"]] == 1:
            yield entry
            continue
        words = _words(_weights_words(entry["Weights"]))
        # The index's own config first: it stays where another fits no better.
        beside = [entry["Config"], *(path for path in configs if Path(path).parent == Path(entry["Config"]).parent)]
        best = min(beside, key=lambda path: len(words ^ _words(Path(path).stem)))
        yield {**entry, "Config": best, "Name": Path(best).stem}


def _weights_words(url: str) -> str:
    name = url.rpartition("/")[2]
    found = _WEIGHTS.fullmatch(name)
    return found["words"] if found else name


def _words(name: str) -> frozenset[str]:
    """What a file name says, in parts. Older names write `4x4` for what newer ones write as `4xb4`."""
    return frozenset(re.sub(r"^(\d)x(\d)$", r"\1xb\2", word) for word in re.split("[_-]", name))


def _usual_host(entries: Sequence[Mapping[str, Any]]) -> str:
    """The host of most checkpoints: one that stands alone is a misspelling, from which nothing is to be fetched."""
    hosts = Counter(urlsplit(entry["Weights"]).netloc for entry in entries)
    return hosts.most_common(1)[0][0] if hosts else ""


def _published(
    entry: Mapping[str, Any],
    collections: Mapping[str, Mapping[str, Any]],
    host: str,
    texts: ConfigTexts,
    folder: Path,
) -> Published:
    collection = collections.get(entry["In Collection"], {})
    papers = [one["Paper"]["URL"] for one in (entry, collection) if "Paper" in one]
    height, width = texts.value(folder / entry["Config"], "crop_size")
    return Published(
        name=entry["Name"],
        config=entry["Config"].partition("/")[2],
        dataset=entry["Results"]["Dataset"],
        backbone=entry["Metadata"]["Architecture"][0],
        crop_size=(height, width),
        metrics=entry["Results"]["Metrics"],
        url=urlsplit(entry["Weights"])._replace(netloc=host).geturl(),
        stated_url=entry["Weights"],
        papers=tuple(dict.fromkeys(papers)),
        licence=collection.get("License") or _package_licence(),
    )


def _package_licence() -> str:
    """The licence of the distribution that has the index; metadata of version 2.4 has it in a field of another name."""
    about = importlib.metadata.metadata(providers("mmseg")[0])
    return about["License"] or about["License-Expression"]
