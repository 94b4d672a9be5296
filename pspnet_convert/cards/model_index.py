"""The models with PSPNet's head that mmsegmentation publishes, read from the index in its package.

Reads the package's metafiles and the text of its configs, and imports neither mmsegmentation nor torch.
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
from pspnet_convert.errors import DependencyError
from pspnet_convert.package_versions import providers

HEAD = "PSPHead"
# `<what>_<date>_<time>-<first eight hex digits of the SHA-256>.pth`
_CHECKPOINT_NAME = re.compile(r"(?P<words>.+)_\d{8}_\d{6}-(?P<digest>[0-9a-f]{8})\.pth")
# The C loader is ten times as fast, but not every PyYAML has it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Published:
    """A model of the index. `config` is a file below mmsegmentation's configs, `crop_size` height and width.

    `metrics` are per cent, by the index's names. `url` is where the checkpoint is downloaded from; `stated_url` is
    the index's URL, where the host may be misspelled. `licence` is the index's name for it.
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
        found = _CHECKPOINT_NAME.fullmatch(self.file_name)
        return found["digest"] if found else None


def package_folder() -> Path:
    """Where mmsegmentation keeps its index and configs; DependencyError if it is not installed."""
    spec = importlib.util.find_spec("mmseg")
    if spec is None or spec.origin is None:
        raise DependencyError("mmsegmentation is not installed", "Install pspnet-convert with its dependencies.")
    return Path(spec.origin).parent / ".mim"


def published(folder: Path | None = None) -> list[Published]:
    """All models with PSPNet's head, in the index's order, each with a unique name.

    `folder` holds model-index.yml (default: the installed package's). Raises DependencyError if there is no index.
    """
    folder = folder or package_folder()
    index = folder / "model-index.yml"
    if not index.is_file():
        raise DependencyError(f"{index}: mmsegmentation's model index is missing", "Install mmsegmentation with pip.")
    texts = ConfigTexts()
    heads: list[Path] = []  # the configs with PSPNet's head
    entries: list[dict[str, Any]] = []
    collections: dict[str, dict[str, Any]] = {}
    for metafile in (folder / name for name in _read(index)["Import"]):
        configs = [path for path in sorted(metafile.parent.glob("*.py")) if _is_pspnet(texts, path)]
        if configs:  # a metafile describes the configs in its own folder; the other metafiles need not be read
            heads += configs
            content = _read(metafile)
            collections.update((one["Name"], one) for one in content.get("Collections", []))
            entries += [entry for entry in content["Models"] if folder / entry["Config"] in configs]
    entries = list(_with_true_configs(entries, [path.relative_to(folder).as_posix() for path in heads]))
    host = _usual_host(entries)
    return [_from_entry(entry, collections, host, texts, folder) for entry in entries]


def _read(path: Path) -> Any:
    return yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506 (the C form of the safe loader)


def _is_pspnet(texts: ConfigTexts, path: Path) -> bool:
    return texts.value(path, "model", "decode_head", "type") == HEAD


def _with_true_configs(entries: Sequence[dict[str, Any]], configs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The entries, each with the config that it was trained with.

    If the index names a config twice, one of the two is wrong: the name of the checkpoint's file then decides.
    """
    times = Counter(entry["Config"] for entry in entries)
    for entry in entries:
        if times[entry["Config"]] == 1:
            yield entry
            continue
        parts = _name_parts(_checkpoint_stem(entry["Weights"]))
        # The index's config is first: it stays unless another fits better.
        fitting = [entry["Config"], *(path for path in configs if Path(path).parent == Path(entry["Config"]).parent)]
        best = min(fitting, key=lambda path: len(parts ^ _name_parts(Path(path).stem)))
        yield {**entry, "Config": best, "Name": Path(best).stem}


def _checkpoint_stem(url: str) -> str:
    """The checkpoint's file name without date, time and digest."""
    name = url.rpartition("/")[2]
    found = _CHECKPOINT_NAME.fullmatch(name)
    return found["words"] if found else name


def _name_parts(name: str) -> frozenset[str]:
    """The parts of a file name. Older names have `4x4` where newer ones have `4xb4`."""
    return frozenset(re.sub(r"^(\d)x(\d)$", r"\1xb\2", word) for word in re.split("[_-]", name))


def _usual_host(entries: Sequence[Mapping[str, Any]]) -> str:
    """The host of most checkpoints. Another one is a misspelling, and nothing must be downloaded from it."""
    hosts = Counter(urlsplit(entry["Weights"]).netloc for entry in entries)
    return hosts.most_common(1)[0][0] if hosts else ""


def _from_entry(
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
