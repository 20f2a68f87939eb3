"""The links of an Ogg file: a chained file is several files in one, of which libsndfile decodes only the first."""

from pipeline.errors import InvalidAudio

MAGIC = b"OggS"
LINKS_MAX = 100
_PAGES_MAX = 100_000  # to bound the time
_HEADER = 27  # bytes of a page's header before its table of segments (RFC 3533)
_BEGINNING = 2  # the flag of the first page of a logical stream


def split_links(data: bytes) -> tuple[list[bytes], bool]:
    """Return the links of a file, and whether its last page is complete.

    Raises
    ------
    InvalidAudio
        The file has too many links or pages.
    """
    starts, ends, position, pages = [0], [0], 0, 0
    has_audio = False
    while (start := data.find(MAGIC, position)) >= 0 and start + _HEADER <= len(data):
        pages += 1
        begins = bool(data[start + 5] & _BEGINNING)
        if begins and has_audio:
            starts.append(start)
            ends.append(start)
        if len(starts) > LINKS_MAX or pages > _PAGES_MAX:
            raise InvalidAudio(f"The file has more than {LINKS_MAX} parts. Encode it as one.", field="audio")
        has_audio = not begins
        segments = start + _HEADER
        table = data[segments : segments + data[segments - 1]]
        position = ends[-1] = segments + len(table) + sum(table)
    is_whole = not pages or (position <= len(data) and start < 0)
    if len(starts) == 1:
        return [data], is_whole
    return [data[start:end] for start, end in zip(starts, ends, strict=True)], is_whole
