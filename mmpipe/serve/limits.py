"""What one server gives its clients: bytes, seconds and places."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Budgets; whoever passes one gets a coded refusal and nothing else suffers."""

    max_batch: int = 32
    """Samples that the model sees at once, at most."""
    max_wait_s: float = 0.005
    """How long a sample may wait for others to share its batch."""
    workers: int = 2
    """Processes that decode uploads."""
    max_file_bytes: int = 32 * MIB
    """Of one picture or recording."""
    max_text_bytes: int = 1 * MIB
    """Of the text, and of its earlier turns together."""
    max_turns: int = 1_000
    """Earlier turns of one text."""
    max_held_bytes: int = 256 * MIB
    """Of all bodies that are being read or worked on."""
    max_requests: int = 128
    """Predictions under way at the same time."""
    max_connections: int = 1_000
    head_s: float = 10.0
    """From a connection, or an answer's end, to the end of the next request's head, once it has begun."""
    upload_s: float = 30.0
    """For a whole body."""
    decode_s: float = 10.0
    """For the files of one request, in a worker."""
    request_s: float = 60.0
    """From the first byte of the body to the answer."""
    stop_s: float = 4.0
    """For what is under way when the server is told to stop."""
    worker_bytes: int = 2048 * MIB
    """Memory of one worker."""
    poll_s: float = 3.0
    """Between two looks at where the model comes from."""

    @property
    def max_multipart_bytes(self) -> int:
        """Of a whole multipart body: two files, a text, its earlier turns and what separates them."""
        return 2 * self.max_file_bytes + 2 * self.max_text_bytes + MIB // 16

    @property
    def max_json_bytes(self) -> int:
        """Of a whole JSON body: the files in base64, the text and its earlier turns with escapes."""
        return 4 * -(-2 * self.max_file_bytes // 3) + 12 * self.max_text_bytes + MIB // 16
