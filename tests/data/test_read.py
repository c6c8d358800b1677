"""Reading tensors: the same values as torch.load, straight from the bytes, without running stored code."""

import io
import os
import pickle
import random
import re
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interp_refiner.data.shards import LocalFolder, MemberReader, Unreadable, all_finite
from interp_refiner.data.shards.storage import Span
from interp_refiner.data.shards.tensor_file import plain_tensor
from interp_refiner.data.shards.zip_file import zip_members
from tests.data.shards_on_disk import Watched, saved

REAL_CLIP = Path(__file__).resolve().parents[3] / "shared" / "data" / "wan_clip.pth"
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def shard(folder: Path, *contents: bytes, storage: type = Watched, **kwargs):
    """A shard that holds the contents one after the other (no tar is needed for reading), and their spans."""
    (folder / "shard-00000.tar").write_bytes(b"".join(contents))
    offsets = [sum(map(len, contents[:i])) for i in range(len(contents))]
    spans = [Span("shard-00000.tar", offset, len(content)) for offset, content in zip(offsets, contents, strict=True)]
    return storage(folder, **kwargs), spans


def numbers(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def repacked(content: bytes, pad: str = "", compression: int = zipfile.ZIP_STORED) -> bytes:
    """The same members in a zip of another writer, padded by one more member at the start or at the end."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        if pad == "start":
            new.writestr("archive/.pad", b"x" * 42)
        for name in old.namelist():
            new.writestr(name, old.read(name))
        if pad == "end":
            new.writestr("archive/.pad", b"x" * 42)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 4, 5), (16, 2, 1, 8), (0, 3)])
def test_a_plain_file_is_read_in_place(tmp_path, dtype, shape):
    first, second = numbers(*shape, dtype=dtype), numbers(*shape, dtype=dtype, seed=1)
    storage, spans = shard(tmp_path, saved(first), saved(second))
    reader = MemberReader(storage)
    for tensor, span in [(first, spans[0]), (second, spans[1]), (first, spans[0])]:
        out = torch.full(shape, 7.0, dtype=dtype)
        storage.reads.clear()
        reader.read_into(span, out)
        assert torch.equal(out, tensor)
        assert storage.reads == [span[:3]], "a plain file is read once, as a whole"
        assert torch.equal(reader.read(span), tensor)


def test_the_numbers_go_into_the_memory_they_are_wanted_in(tmp_path):
    tensors = [numbers(4, 5, seed=i) for i in range(3)]
    storage, spans = shard(tmp_path, *map(saved, tensors))
    batch = torch.empty(3, 4, 5, dtype=torch.bfloat16)
    reader = MemberReader(storage)
    for row, span in zip(batch, spans, strict=True):
        reader.read_into(span, row)
    assert torch.equal(batch, torch.stack(tensors))


BASE = numbers(6, 8, 10, seed=3)
OTHER_FILES = {
    "view": (saved(BASE[2]), BASE[2]),
    "transposed": (saved(BASE.transpose(0, 2)), BASE.transpose(0, 2)),
    "strided": (saved(BASE[:, ::2, 1:9:3]), BASE[:, ::2, 1:9:3]),
    "expanded": (saved(BASE[:1].expand(4, 8, 10)), BASE[:1].expand(4, 8, 10)),
    "parameter": (saved(torch.nn.Parameter(BASE.clone())), BASE),
    "old format": (saved(BASE, _use_new_zipfile_serialization=False), BASE),
    "moved": (repacked(saved(BASE), pad="start"), BASE),
    "unaligned": (repacked(saved(BASE)), BASE),
    "compressed": (repacked(saved(BASE), compression=zipfile.ZIP_DEFLATED), BASE),
}


@pytest.mark.parametrize("name", sorted(OTHER_FILES))
def test_whatever_torch_can_load_is_read_the_same(tmp_path, name):
    content, expected = OTHER_FILES[name]
    plain = saved(torch.zeros_like(expected).contiguous())
    storage, spans = shard(tmp_path, plain, content, plain, content)
    reader = MemberReader(storage)
    for span, tensor in zip(spans, [torch.zeros_like(expected), expected] * 2, strict=True):
        out = torch.empty(expected.shape, dtype=expected.dtype)
        reader.read_into(span, out)
        assert torch.equal(out, tensor)
        assert torch.equal(reader.read(span), tensor)


def test_files_of_one_length_with_numbers_in_different_places(tmp_path):
    """The place is parsed: an offset remembered from the last file of this length would give wrong numbers."""
    tensors = [numbers(6, 8, seed=i) for i in range(6)]
    files = [repacked(saved(t), pad=pad) for t, pad in zip(tensors, ["start", "end", "end"] * 2, strict=True)]
    assert len({len(file) for file in files}) == 1
    storage, spans = shard(tmp_path, *files)
    reader = MemberReader(storage)
    for span, tensor in zip(spans, tensors, strict=True):
        out = torch.empty_like(tensor)
        reader.read_into(span, out)
        assert torch.equal(out, tensor)


def test_a_tensor_saved_from_a_gpu_is_read_without_one():
    content = bytearray(with_pickle(saved(numbers(3, 4)), rebuild(location="cuda:0")))
    assert torch.equal(plain_tensor(content).view(content), numbers(3, 4))


@pytest.mark.skipif(not REAL_CLIP.exists(), reason=f"needs {REAL_CLIP}")
def test_the_real_clip_is_plain():
    content = bytearray(REAL_CLIP.read_bytes())
    expected = torch.load(REAL_CLIP, map_location="cpu", weights_only=True)
    assert torch.equal(plain_tensor(content).view(content), expected)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["whole", "old format", "in a plain file", "not a zip"])
def test_a_pickle_never_runs_its_code(tmp_path, how):
    mark = tmp_path / "executed"
    content = {
        "whole": lambda: saved({"a": Bomb(mark)}),
        "old format": lambda: saved(Bomb(mark), _use_new_zipfile_serialization=False),
        "in a plain file": lambda: with_pickle(saved(numbers(3, 4)), pickle.dumps(Bomb(mark), protocol=2)),
        "not a zip": lambda: pickle.dumps(Bomb(mark)),
    }[how]()
    storage, (span,) = shard(tmp_path, content)
    with pytest.raises(Unreadable, match="not a tensor file"):
        MemberReader(storage).read_into(span, torch.empty(3, 4, dtype=torch.bfloat16))
    with pytest.raises(Unreadable):
        MemberReader(storage).read(span)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the pickle would have left this mark"


def with_pickle(content: bytes, pickled: bytes) -> bytes:
    """The same zip with another data.pkl."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            new.writestr(name, pickled if name.endswith("data.pkl") else old.read(name))
    return buffer.getvalue()


def rebuild(offset=0, shape=(3, 4), stride=(4, 1), key="0", location="cpu"):
    """A pickle like a tensor's, with whatever it says about where the numbers are."""

    class Unsound(pickle._Pickler):
        def persistent_id(self, value):
            return ("storage", torch.BFloat16Storage, key, location, 12) if value == "numbers" else None

    class Call:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, ("numbers", offset, shape, stride, False, {})

    buffer = io.BytesIO()
    Unsound(buffer, 2).dump(Call())
    return buffer.getvalue()


@pytest.mark.parametrize(
    "described",
    [
        {"offset": 1},
        {"offset": -1},
        {"stride": (5, 1)},
        {"stride": (4, 2)},
        {"stride": (-4, 1)},
        {"stride": (4,)},
        {"shape": (1 << 40, 4)},
        {"shape": ("3", 4)},
        {"key": "1"},
        {"key": "../0"},
    ],
)
def test_a_tensor_beyond_its_storage_is_never_read(tmp_path, described):
    sound = with_pickle(saved(numbers(3, 4)), rebuild())
    assert torch.equal(plain_tensor(bytearray(sound)).view(bytearray(sound)), numbers(3, 4))
    content = with_pickle(saved(numbers(3, 4)), rebuild(**described))
    assert plain_tensor(bytearray(content)) is None
    storage, (span,) = shard(tmp_path, content)
    with pytest.raises(Unreadable):
        MemberReader(storage).read_into(span, torch.empty(3, 4, dtype=torch.bfloat16))


def read(content: bytes, checksums: bool = False) -> torch.Tensor:
    """By a reader that has learned no frame."""
    with tempfile.TemporaryDirectory() as folder:
        storage, (span,) = shard(Path(folder), content + bytes(-len(content) % 512))
        return MemberReader(storage, checksums).read(Span(span[0], 0, len(content)))


@settings(max_examples=150)
@given(cut=st.integers(0, 1300), seed=st.integers(0, 1000))
def test_part_of_a_file_is_never_taken_for_the_whole(cut, seed):
    content = saved(numbers(3, 4))
    cut, at = min(cut, len(content) - 1), random.Random(seed).randrange(1, len(content))
    for part in (content[:cut], content[at:]):
        with pytest.raises(Unreadable):
            read(part)


WRITERS = {
    "torch": saved,
    "zipfile": lambda t: repacked(saved(t)),
    "compressed": lambda t: repacked(saved(t), compression=zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=100)
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
@example(place=2293, flip=1)  # makes the shape an integer in a file of torch 2.13
def test_a_flipped_byte_never_changes_numbers_where_checksums_are_verified(writer, place, flip):
    """A zip says much twice; what it says once and is no number, such as a date, may change unseen."""
    expected = numbers(3, 4)
    content = bytearray(WRITERS[writer](expected))
    content[place % len(content)] ^= flip
    with suppress(Unreadable):
        assert torch.equal(read(content, checksums=True), expected)


@pytest.mark.parametrize("offset", [42, 16, 20, 24, 10, 6])  # of a directory entry: header, crc, sizes, method, needs
def test_a_directory_that_contradicts_its_members_is_refused(offset):
    content = bytearray(saved(numbers(3, 4)))
    for entry in [at.start() for at in re.finditer(b"PK\x01\x02", content)]:
        flipped = bytearray(content)
        flipped[entry + offset] ^= 4
        with pytest.raises(Unreadable, match="a damaged zip"):
            read(flipped)


def test_parsing_copies_headers_and_no_numbers():
    """A copy of the file for each of its members made a first epoch half as fast."""
    copied = []

    class Counted(bytearray):
        def __getitem__(self, place):
            copied.append(len(found) if isinstance(found := super().__getitem__(place), bytearray) else 1)
            return found

    content = Counted(saved(torch.zeros(100_000)))
    assert len(zip_members(content)) > 3
    assert 0 < sum(copied) < 2000


def test_a_file_saved_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        files = [saved(numbers(3, 4, seed=seed)) for seed in range(3)]
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read(files[0], checksums=True), numbers(3, 4))
    padded = [file + bytes(-len(file) % 512) for file in files]
    storage, spans = shard(tmp_path, *padded)
    reader = MemberReader(storage, checksums=True)
    for seed, (name, offset, *_) in enumerate(spans):
        out = torch.empty(3, 4, dtype=torch.bfloat16)
        reader.read_into(Span(name, offset, len(files[seed])), out)
        assert torch.equal(out, numbers(3, 4, seed=seed))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (numbers(3, 4).float().to_sparse(), "holds a sparse_coo tensor, expected a dense one"),
        (numbers(3, 4).float().to_sparse_csr(), "holds a sparse_csr tensor"),
        (torch.empty(3, 4, device="meta"), "holds a meta tensor"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "holds a nested tensor"),
        (torch.quantize_per_tensor(torch.randn(3, 4), 0.1, 0, torch.qint8), "holds a quantized tensor"),
    ],
)
def test_a_tensor_without_plain_numbers_is_refused(value, message):
    with pytest.raises(Unreadable, match=message):
        read(saved(value))


def test_what_is_read_never_asks_for_gradients():
    wanting = numbers(3, 4).requires_grad_()
    for value in (torch.nn.Parameter(numbers(3, 4)), wanting):
        assert not read(saved(value)).requires_grad
        assert not read(saved(value, _use_new_zipfile_serialization=False)).requires_grad


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (numbers(3, 5), r"shape \[3, 5\], expected \[3, 4\]"),
        (numbers(3, 4, dtype=torch.float32), r"dtype torch.float32, expected torch.bfloat16"),
        (numbers(3, 4, dtype=torch.float16), r"dtype torch.float16, expected torch.bfloat16"),
        ({"latents": numbers(3, 4)}, "holds a dict, expected a tensor"),
    ],
)
def test_what_is_not_as_declared_is_refused(tmp_path, value, message):
    good = saved(numbers(3, 4))
    storage, spans = shard(tmp_path, good, saved(value))
    reader = MemberReader(storage)
    reader.read_into(spans[0], torch.empty(3, 4, dtype=torch.bfloat16))
    with pytest.raises(Unreadable, match=message):
        reader.read_into(spans[1], torch.empty(3, 4, dtype=torch.bfloat16))


@pytest.mark.parametrize("other", [numbers(4, 3), numbers(3, 4, dtype=torch.float16), numbers(4, 3).T])
def test_what_has_been_read_before_makes_no_difference(tmp_path, other):
    """Files of one length and as many bytes of numbers, each read as a whole, then into memory, in both orders."""
    storage, spans = shard(tmp_path, saved(numbers(3, 4)), saved(other))
    for first, second in (spans, spans[::-1]):
        reader, out = MemberReader(storage), torch.empty(3, 4, dtype=torch.bfloat16)
        assert torch.equal(reader.read(first), numbers(3, 4) if first is spans[0] else other)
        for _ in range(2):
            for span in (second, first):
                if span is spans[1] and (other.shape, other.dtype) != (out.shape, out.dtype):
                    with pytest.raises(Unreadable, match="expected"):
                        reader.read_into(span, out)
                else:
                    reader.read_into(span, out)
                    assert torch.equal(out, numbers(3, 4) if span is spans[0] else other)


def test_a_shard_that_ends_before_is_an_error(tmp_path):
    storage, (span,) = shard(tmp_path, saved(numbers(3, 4)))
    path = tmp_path / "shard-00000.tar"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EOFError, match=f"ends at byte {span[2] - 1}, expected {span[2]}"):
        MemberReader(storage).read_into(span, torch.empty(3, 4, dtype=torch.bfloat16))


def test_short_reads_are_continued(tmp_path, monkeypatch):
    tensors = [numbers(40, 50, seed=i) for i in range(4)]
    storage, spans = shard(tmp_path, *map(saved, tensors))
    preadv = os.preadv

    def short(descriptor, buffers, offset):
        head = memoryview(next(b for b in buffers if len(b)))
        return preadv(descriptor, [head[: max(1, len(head) // 3)]], offset)

    monkeypatch.setattr(os, "preadv", short)
    reader = MemberReader(storage)
    for tensor, span in zip(tensors, spans, strict=True):
        out = torch.empty_like(tensor)
        reader.read_into(span, out)
        assert torch.equal(out, tensor)


@settings(max_examples=60)
@given(
    dtype=st.sampled_from(DTYPES),
    place=st.integers(0, 2999),
    value=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    shift=st.sampled_from([0, 1, -1]),
)
def test_a_single_number_that_is_not_finite_is_found(dtype, place, value, shift):
    tensor = torch.full((3, 1000), torch.finfo(dtype).max * 0.99 * shift).to(dtype) + numbers(3, 1000).to(dtype)
    assert all_finite(tensor)
    tensor.view(-1)[place] = value
    assert not all_finite(tensor)


def test_the_largest_numbers_are_finite():
    for dtype in DTYPES:
        extremes = torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).min, torch.finfo(dtype).tiny], dtype=dtype)
        assert all_finite(extremes)
        assert all_finite(extremes[:0])


def test_many_shards_many_threads_few_open_files(tmp_path):
    tensors = [numbers(5, 7, seed=i) for i in range(200)]
    for i, tensor in enumerate(tensors):
        (tmp_path / f"shard-{i:05d}.tar").write_bytes(saved(tensor))
    storage = LocalFolder(tmp_path, max_open=3)
    assert len(storage.shards()) == 200
    reader, size = MemberReader(storage), len(saved(tensors[0]))
    most = []

    def check(i):
        out = torch.empty(5, 7, dtype=torch.bfloat16)
        reader.read_into(Span(f"shard-{i:05d}.tar", 0, size), out)
        most.append(len(storage._files))
        return torch.equal(out, tensors[i])

    order = [i % 200 for i in range(1000)]
    random.Random(0).shuffle(order)
    before = len(os.listdir("/proc/self/fd"))
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, order))
    assert max(most) <= 3 + 8, "idle files beyond the limit stay open"
    assert len(os.listdir("/proc/self/fd")) <= before + 3
    storage.close()
    assert len(storage._files) == 0
    assert check(7), "reading again opens the file again"
