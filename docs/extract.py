#!/usr/bin/env python3
"""Takes a dataset out of a repository without Larder: Python 3.8 or later and libzstd, nothing else.

    python3 extract.py REPOSITORY                          what there is
    python3 extract.py REPOSITORY NAME[@REF] DIRECTORY     its files, in a new directory

REPOSITORY is a directory; one in a bucket is brought first (`aws s3 sync s3://bucket/prefix DIRECTORY`, or any such tool).
REF is a branch, a tag or a whole version id; without one, the branch main. Everything is checked against its digest. Objects that
were imported in place are in their own bucket still: what to fetch is printed, one line of JSON each.

It follows formats.md, which stands beside it, and shares no code with Larder.
"""

import ctypes
import ctypes.util
import functools
import hashlib
import json
import os
import re
import struct
import sys
import urllib.parse


def main(arguments):
    if len(arguments) == 1:
        return show_names(arguments[0])
    if len(arguments) != 3:
        sys.exit(__doc__)
    repository, name, directory = arguments
    version = json.loads(checked(repository, "versions", resolve(repository, name)))
    os.mkdir(directory)
    Extraction(repository, os.fsencode(directory)).run(version["root"])


def show_names(repository):
    datasets = os.path.join(repository, "datasets")
    for dataset in sorted(os.listdir(datasets)):
        for kind in ("branches", "tags"):
            folder = os.path.join(datasets, dataset, kind)
            for name in sorted(os.listdir(folder) if os.path.isdir(folder) else []):
                version = version_of(os.path.join(folder, name))
                if version is not None:
                    print(urllib.parse.unquote(dataset) + "@" + urllib.parse.unquote(name), version)


def resolve(repository, name):
    dataset, _, ref = name.partition("@")
    if re.fullmatch("[0-9a-f]{64}", ref):
        return ref
    for kind in ("branches", "tags"):
        file = os.path.join(repository, "datasets", escaped(dataset), kind, escaped(ref or "main"))
        version = version_of(file) if os.path.isfile(file) else None
        if version is not None:
            return version
    sys.exit("there is no %s in %s" % (name, repository))


def version_of(file):
    """What a branch or a tag names; None for what some stores keep in the place of a deleted one."""
    with open(file, "rb") as content:
        ref = content.read()
    return json.loads(ref)["version"] if ref.startswith(b"{") else None


def escaped(name):
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    data = name.encode()
    return "".join(chr(b) if b in plain or (b == 0x2E and at > 0) else "%%%02X" % b for at, b in enumerate(data))


def path_of(repository, kind, digest):
    return os.path.join(repository, kind, digest[:2], digest)


def checked(repository, kind, digest):
    with open(path_of(repository, kind, digest), "rb") as file:
        data = file.read()
    require(hashlib.sha256(data).hexdigest() == digest, "%s %s is damaged" % (kind, digest))
    return data


def require(holds, fault):
    if not holds:
        sys.exit(fault)


class Extraction:
    def __init__(self, repository, directory):
        self.repository = repository
        self.directory = directory
        self.links = {}
        self.directories = []
        self.packs = {}

    def run(self, root):
        self.segment(root)
        # Last and from the inside out: what is written into a directory changes its time.
        for path, entry in reversed(self.directories):
            self.attributes(path, entry)

    def segment(self, digest):
        with open(path_of(self.repository, "segments", digest), "rb") as file:
            data = file.read()
        magic, form, codec, length, stored = struct.unpack_from("<4sBBII", data)
        require(magic == b"LSEG" and form == 1 and len(data) == 14 + stored, "segment %s is damaged" % digest)
        encoding = data[14:] if codec == 0 else decompressed(data[14:], length, "segment %s" % digest)
        require(hashlib.sha256(encoding).hexdigest() == digest, "segment %s is damaged" % digest)
        reader = Reader(encoding)
        if reader.u8() == 0:
            self.leaf(digest, reader)
            return
        children = reader.varint()
        for _ in range(children):
            reader.take(reader.varint())
            reader.take(reader.varint())
            reader.varint()
            reader.varint()
        for child in [reader.take(32).hex() for _ in range(children)]:
            self.segment(child)

    def leaf(self, digest, reader):
        count, rows, texts, digests = (reader.varint() for _ in range(4))
        row = Reader(reader.take(rows))
        text = Reader(reader.take(texts))
        chunk = Reader(reader.take(32 * digests))
        blob = Reader(reader.rest())
        entries = []
        chunks = {}
        seconds = 0
        for _ in range(count):
            flags = row.u8()
            entry = {"type": flags & 3, "path": text.take(row.varint()), "mode": row.varint()}
            entry["uid"], entry["gid"] = row.varint(), row.varint()
            seconds += row.signed()
            entry["mtime"] = seconds * 10**9 + row.varint()
            if entry["type"] == 0:
                entry["size"] = row.varint()
                content = flags >> 2 & 3
                if content == 0:
                    entry["inline"] = blob.take(entry["size"])
                elif content == 1:
                    entry["parts"] = [(entry["size"], chunk.take(32))]
                elif content == 2:
                    parts = Reader(blob.take(row.varint()))
                    entry["parts"] = [
                        (parts.varint(), parts.take(32) if parts.u8() else None) for _ in range(parts.varint())
                    ]
                else:
                    source = Reader(blob.take(row.varint()))
                    entry["source"] = [source.take(source.varint()).decode() for _ in range(4)]
                for length, part in entry.get("parts", []):
                    if part is not None:
                        chunks.setdefault(part, length)
                if flags & 32:
                    entry["link"] = text.take(row.varint())
            elif entry["type"] == 2:
                entry["target"] = text.take(row.varint())
            if flags & 16:
                entry["xattrs"] = [
                    (text.take(row.varint()), blob.take(row.varint())) for _ in range(row.varint())
                ]
            entries.append(entry)
        places = self.locations(digest, list(chunks)) if chunks else {}
        for entry in entries:
            self.write(entry, places, chunks)

    def locations(self, digest, chunks):
        with open(path_of(self.repository, "locations", digest), "rb") as file:
            data = file.read()
        require(hashlib.sha256(data[:-32]).digest() == data[-32:], "the locations of %s are damaged" % digest)
        reader = Reader(data[37:-32])
        packs = [reader.take(32).hex() for _ in range(reader.varint())]
        require(reader.varint() == len(chunks), "the locations of %s are another segment's" % digest)
        ends = {}
        places = {}
        for chunk in chunks:
            pack = packs[reader.varint()]
            offset = ends.get(pack, 0) + reader.signed()
            stored = reader.varint()
            ends[pack] = offset + (stored >> 1)
            places[chunk] = (pack, offset, stored >> 1, stored & 1)
        return places

    def chunk(self, chunk, place, length):
        pack, offset, stored, compressed = place
        if pack not in self.packs:
            if len(self.packs) >= 16:
                self.packs.pop(next(iter(self.packs))).close()
            self.packs[pack] = open(path_of(self.repository, "packs", pack), "rb")
        self.packs[pack].seek(offset)
        data = self.packs[pack].read(stored)
        name = "chunk %s in pack %s" % (chunk.hex(), pack)
        if compressed:
            data = decompressed(data, length, name)
        require(hashlib.sha256(data).digest() == chunk, "%s is damaged" % name)
        return data

    def write(self, entry, places, lengths):
        inside = entry["path"]
        unsafe = any(part in (b"", b".", b"..") for part in inside.split(b"/")) and inside != b""
        require(not unsafe and b"\0" not in inside, "a path leads out of the directory: %r" % inside)
        path = os.path.join(self.directory, inside) if inside else self.directory
        if entry["type"] == 1:
            if inside:
                os.mkdir(path, 0o700)
            self.directories.append((path, entry))
            return
        if entry["type"] == 2:
            os.symlink(entry["target"], path)
        elif entry.get("link") in self.links:
            os.link(self.links[entry["link"]], path, follow_symlinks=False)
            return
        elif "source" in entry:
            names = ("bucket", "key", "etag", "version")
            fields = {name: value for name, value in zip(names, entry["source"]) if value}
            print(json.dumps({"path": os.fsdecode(path), "size": entry["size"], **fields}))
            return
        else:
            with open(path, "xb") as file:
                if "inline" in entry:
                    file.write(entry["inline"])
                for length, chunk in entry.get("parts", []):
                    if chunk is None:
                        file.seek(length, os.SEEK_CUR)
                    else:
                        file.write(self.chunk(chunk, places[chunk], lengths[chunk]))
                file.truncate(entry["size"])
            if "link" in entry:
                self.links[entry["link"]] = path
        self.attributes(path, entry)

    def attributes(self, path, entry):
        for name, value in entry.get("xattrs", []):
            os.setxattr(path, name, value, follow_symlinks=False)
        if os.geteuid() == 0:
            os.chown(path, entry["uid"], entry["gid"], follow_symlinks=False)
        if entry["type"] != 2:
            os.chmod(path, entry["mode"])
        os.utime(path, ns=(entry["mtime"], entry["mtime"]), follow_symlinks=False)


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, length):
        require(self.at + length <= len(self.data), "an object ends too early")
        self.at += length
        return self.data[self.at - length : self.at]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self):
        value = self.varint()
        return value >> 1 if value & 1 == 0 else -((value + 1) >> 1)


def decompressed(frame, length, name):
    target = ctypes.create_string_buffer(max(1, length))
    result = zstd().ZSTD_decompress(target, length, frame, len(frame))
    require(result == length, "%s is damaged" % name)
    return target.raw[:length]


@functools.lru_cache(maxsize=None)
def zstd():
    library = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return library


if __name__ == "__main__":
    main(sys.argv[1:])
