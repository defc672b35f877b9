"""One HTTP/1.1 answer as its bytes arrive; knows nothing of sockets."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from scenarios.eventstream import CONTENT_TYPE, Frames

SWITCHING_PROTOCOLS = 101


class Answer:
    """Reads the answers of one connection, one after the other."""

    def __init__(self) -> None:
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self.restart()

    def restart(self) -> None:
        """Forget the last answer: a new one is awaited."""
        self.complete = False
        self.reusable = False
        """Once complete: the connection can carry another request."""
        self.broken = False
        """What came is not HTTP."""
        self.status = 0
        self.error_type = ""
        self.server_timing = ""
        self.body_bytes = 0
        self._frames: Frames | None = None
        self._measured = False

    @property
    def stream_error(self) -> str:
        """The error inside a stream of events, if the answer is one and has one."""
        return self._frames.error if self._frames is not None else ""

    def feed(self, data: memoryview) -> None:
        """Take what arrived; afterwards look at ``complete`` and ``broken``."""
        assert self._parser is not None, "nothing is fed to a closed answer"
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            # After a whole answer it is only the connection that is of no more use.
            self.broken = not self.complete
            self.reusable = False

    def end(self) -> None:
        """The server has closed; that completes an answer whose head told no length."""
        self.complete = self.complete or (self.status >= 200 and not self._measured)
        self.reusable = False

    def close(self) -> None:
        """Parser and answer know each other; without garbage collection they must be parted."""
        self._parser = None

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        if self.complete:  # an answer that nobody has asked for
            raise HttpParserError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._measured = True
        elif name == b"server-timing":
            self.server_timing = value.decode("latin-1")
        elif name == b"x-amzn-errortype":
            self.error_type = value.decode("latin-1")
        elif name == b"content-type" and value.startswith(CONTENT_TYPE.encode()):
            self._frames = Frames()

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self._frames is not None:
            self._frames.feed(body)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self.status >= 200 or self.status == SWITCHING_PROTOCOLS:
            self.complete = True
            if self._frames is not None:
                self._frames.end()
            self.reusable = self._parser.should_keep_alive()
        else:  # such as 100 Continue: the answer proper follows
            self.restart()
