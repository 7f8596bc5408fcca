"""The inputs: requests from a grammar, most with one defect and some with several."""
import random

# A body that is a request itself: a server that miscounts serves a page that does not exist.
DECOY = b"GET /decoy HTTP/1.1\r\nHost: a\r\n\r\n"


class Draft:
    """A request in parts, which defects change before it is written."""

    def __init__(self, rng):
        self.before = b""
        rare_methods = [b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"]
        self.method = rng.choice([b"GET"] * 4 + [b"POST"] * 3 + rare_methods)
        rare_targets = [
            b"/nowhere", b"/?a=b&c", b"/%65cho", b"http://a/", b"http://a:80/x?y", b"//x",
        ]
        self.target = rng.choice([b"/"] * 4 + rare_targets)
        self.spaces = [b" ", b" "]
        self.version = rng.choice([b"HTTP/1.1"] * 5 + [b"HTTP/1.0"])
        self.line_end = b"\r\n"
        self.fields = [b"Host: a"]
        self.ends = {}
        self.end = b"\r\n"
        self.body = b""
        if self.method == b"POST":
            self.target = rng.choice([b"/echo", b"/echo", b"/"])
        has_body = self.method in (b"POST", b"PUT", b"PATCH") or rng.random() < 0.15
        if has_body:
            self.body = rng.choice([
                DECOY, b"hello", b"", b"\r\n", b"0\r\n\r\n" + DECOY, bytes(range(256)),
            ])
            self.fields.append(b"Content-Length: %d" % len(self.body))
        harmless_fields = [
            b"Accept: */*", b"Accept-Encoding: gzip, br", b"Cookie: a=b; c=\"d\"", b"X:",
            b"User-Agent: x/1 (y; z)",
        ]
        self.fields += rng.sample(harmless_fields, rng.randrange(3))
        if rng.random() < 0.3:
            options = [
                b"keep-alive", b"close", b"Keep-Alive", b"upgrade", b"close, x", b"x , keep-alive",
            ]
            self.fields.append(b"Connection: " + rng.choice(options))
        rng.shuffle(self.fields)

    def bytes(self):
        lines = [field + self.ends.get(index, b"\r\n") for index, field in enumerate(self.fields)]
        line = self.method + self.spaces[0] + self.target + self.spaces[1] + self.version
        return self.before + line + self.line_end + b"".join(lines) + self.end + self.body

    def replace_field(self, name, *others):
        start = name.lower() + b":"
        kept = [field for field in self.fields if not field.lower().startswith(start)]
        self.fields = kept + list(others)


LENGTHS = [
    b"", b"+%d", b"-%d", b"%d,", b",%d", b"%d, %d", b"%d,%d", b"0x%x", b"%d.0", b"%de0", b'"%d"',
    b"%d %d", b"%d;", b"%dx", b"00%d",
]
CODINGS = [
    b"chunked", b"Chunked", b" chunked", b"identity", b"gzip, chunked", b"chunked, gzip",
    b"chunked, chunked", b"xchunked", b"", b"\tchunked", b"chunked;a=b", b'"chunked"',
    b"\x0bchunked", b"chunked\x00",
]
HOSTS = [
    b"", b"a b", b"a,b", b"a/b", b"user@a", b"[::1]", b"[::1", b"a:b", b"a:80:80", b"\xff", b"a_b",
    b"%zz", b"%41", b"a\tb", b"*", b".", b"a#",
]
TARGETS = [
    b"*", b"a:80", b"", b"?x", b"plaintext", b"http://", b"http:///", b"ftp://a/", b"http:/x",
    b"/#x", b"/a b", b"/\x01", b"/\x7f", b"/\xe4", b"/?\xc3\xa4", b"http://a/\xff", b"http://\xe4/",
    b"http://u@a/", b"HTTPS://A?x", b"/\\..\\", b"/../..", b"/%00", b"/%", b"\\",
    b"/" + b"a" * 8200, b"/\"<>{}|^`", b"https://[::1]:8/",
]
VERSIONS = [
    b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"HTTP/1.",
    b"HTTP/11", b"HTTP/01.1", b"HTTP/1.1x", b"", b"HTTP/1,1", b"HTTPS/1.1", b"HTTP /1.1",
    b"HTTP/1 .1", b"HTTP/9.9", b"HTTP/1.0 HTTP/1.1", b"HTTP/\xef\xbc\x91.1",
]
NAMES = [
    b"get", b"FOO", b"G(T", b"G\x00T", b"", b"GET/", b"G\xc4T", b"CONNECT", b"PRI", b"M" * 100,
    b"GETGET", b"TRACE",
]


def defects():
    """The defects and oddities of a request, by name. Each is a function that changes a draft."""

    def defect(name):
        return lambda function: found.setdefault(name, function)

    found = {}

    @defect("content-length")
    def _(draft, rng):
        form = rng.choice(LENGTHS)
        count = len(draft.body)
        value = form % ((count,) * form.count(b"%")) if b"%" in form else form
        draft.replace_field(b"Content-Length", b"Content-Length: " + value)

    @defect("content-length of many digits")
    def _(draft, rng):
        digits = rng.choice([19, 20, 21, 30, 300])
        plain = b"%d" % len(draft.body)
        number = rng.choice([
            plain.rjust(digits, b"0"), b"%d" % (2**64 + len(draft.body)), b"9" * digits,
            b"%d" % (2**64 - 1),
        ])
        draft.replace_field(b"Content-Length", b"Content-Length: " + number)

    @defect("content-length twice")
    def _(draft, rng):
        count = len(draft.body)
        at = rng.randrange(len(draft.fields) + 1)
        draft.fields.insert(at, b"content-length: %d" % rng.choice([count, count, 0, count + 5]))

    @defect("content-length of another body")
    def _(draft, rng):
        count = max(0, len(draft.body) + rng.choice([-1, 1, -5, 5, 40, 1000]))
        draft.replace_field(b"Content-Length", b"Content-Length: %d" % count)

    @defect("transfer-encoding")
    def _(draft, rng):
        name = rng.choice([
            b"Transfer-Encoding", b"transfer-encoding", b"Transfer-Encoding ", b"Transfer_Encoding",
            b"Transfer-Encodin",
        ])
        at = rng.randrange(len(draft.fields) + 1)
        draft.fields.insert(at, name + b": " + rng.choice(CODINGS))
        if rng.random() < 0.7:
            draft.body = rng.choice([
                b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n" + DECOY, b"5;x\r\nhello\r\n0\r\n\r\n",
                b"0x5\r\nhello\r\n0\r\n\r\n",
            ])
        if rng.random() < 0.5:
            draft.replace_field(b"Content-Length")

    @defect("host")
    def _(draft, rng):
        draft.replace_field(b"Host", b"Host: " + rng.choice(HOSTS))

    @defect("host: none, or two")
    def _(draft, rng):
        draft.replace_field(b"Host", *rng.choice([
            [], [b"Host: a", b"Host: a"], [b"Host: a", b"host: b"], [b"Host:", b"Host:"],
        ]))

    @defect("target")
    def _(draft, rng):
        draft.target = rng.choice(TARGETS)

    @defect("version")
    def _(draft, rng):
        draft.version = rng.choice(VERSIONS)

    @defect("method")
    def _(draft, rng):
        draft.method = rng.choice(NAMES)

    @defect("no version")
    def _(draft, rng):
        draft.version, draft.spaces[1] = b"", rng.choice([b"", b"", b" "])

    @defect("spaces in the request line")
    def _(draft, rng):
        draft.spaces[rng.randrange(2)] = rng.choice([
            b"", b"  ", b"\t", b" \t", b"\x0b", b"\x0c", b"\r", b"\xa0", b" x ",
        ])

    @defect("line end of the request line")
    def _(draft, rng):
        draft.line_end = rng.choice([
            b"\n", b"\r", b"\r\r\n", b" \r\n", b"\t\r\n", b"\n\r\n", b"\r\n ", b"\r\n\t",
            b"\r\n \r\n", b"\x00\r\n",
        ])

    @defect("line end of a field")
    def _(draft, rng):
        index = rng.randrange(len(draft.fields) or 1)
        draft.ends[index] = rng.choice([
            b"\n", b"\r", b"\r\r\n", b" \r\n", b"\t \r\n", b"\n\r", b"\x0b\r\n", b"\x00\r\n",
            b"\x85\r\n", b"",
        ])

    @defect("end of the head")
    def _(draft, rng):
        draft.end = rng.choice([
            b"\n", b"\r", b"\r\r\n", b" \r\n", b"", b"\n\r\n", b"\r\n\r\n", b"\x00\r\n",
        ])

    @defect("folded line")
    def _(draft, rng):
        index = rng.randrange(len(draft.fields) or 1)
        draft.ends[index] = rng.choice([
            b"\r\n x\r\n", b"\r\n\tx\r\n", b"\r\n \r\n", b"\n x\r\n", b"\r\n 5\r\n",
            b"\r\n chunked\r\n",
        ])

    @defect("field name")
    def _(draft, rng):
        names = [
            b"X ", b" X", b"X\t", b"", b"X(", b"X\x00", b"X\x7f", b"\xe4", b"X:", b"X\x0b",
            b"Content-Length ", b"Host ", b"X\r", b"Ho st", b"\x00",
        ]
        draft.fields.insert(rng.randrange(len(draft.fields) + 1), rng.choice(names) + b": 5")

    @defect("field without a colon")
    def _(draft, rng):
        at = rng.randrange(len(draft.fields) + 1)
        lines = [b"X", b"X y", b"Content-Length 5", b"=", b"\x00"]
        draft.fields.insert(at, rng.choice(lines))

    @defect("field value")
    def _(draft, rng):
        value = rng.choice([
            b"\x00", b"a\x00b", b"\x01", b"\x7f", b"a\rb", b"\r", b"\xff\xe4", b"a\tb", b"\x0b",
            b"\x1b[0m", b'"', b":::", b"a" * 3000,
        ])
        draft.fields.insert(rng.randrange(len(draft.fields) + 1), b"X: " + value)

    @defect("white space around a value")
    def _(draft, rng):
        spaces = [b"", b" ", b"\t", b" \t ", b"\x0b", b"\x0c", b"\xa0"]
        before, after = rng.choice(spaces), rng.choice(spaces)
        index = rng.randrange(len(draft.fields) or 1)
        if draft.fields:
            name, _, value = draft.fields[index].partition(b": ")
            draft.fields[index] = name + b":" + before + value + after

    @defect("before the request")
    def _(draft, rng):
        draft.before = rng.choice([
            b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\x00", b" \r\n", b"\r\n" * 5,
            b"\r\n" * 20, b"\xef\xbb\xbf",
        ])

    @defect("expectation")
    def _(draft, rng):
        draft.fields.append(b"Expect: " + rng.choice([
            b"100-continue", b"100-Continue", b"x", b"x, 100-continue", b"100-continuex", b"",
        ]))

    @defect("upgrade")
    def _(draft, rng):
        protocol = rng.choice([b"websocket", b"h2c", b"TLS/1.0"])
        draft.fields += [
            b"Upgrade: " + protocol, b"Connection: Upgrade, HTTP2-Settings",
            b"HTTP2-Settings: AAMAAABk",
        ]

    @defect("connection")
    def _(draft, rng):
        options = [
            b"", b",", b"keep-alive, close", b"closex", b"xclose", b"clo se", b"keep-alive;x",
            b"close;", b"\"close\"", b"Close", b",close", b"content-length",
        ]
        draft.replace_field(b"Connection", b"Connection: " + rng.choice(options))

    @defect("many fields")
    def _(draft, rng):
        count = rng.choice([40, 63, 99, 101, 200])
        draft.fields += [b"X-%d: y" % number for number in range(count)]

    @defect("long head")
    def _(draft, rng):
        draft.fields.append(b"X: " + b"x" * rng.choice([7000, 8000, 9000, 17000]))

    @defect("body behind no length")
    def _(draft, rng):
        draft.replace_field(b"Content-Length")
        draft.body = draft.body or DECOY

    @defect("cut short")
    def _(draft, rng):
        draft.body = draft.body[: rng.randrange(len(draft.body) + 1)]
        draft.end = rng.choice([b"", b"\r\n"])

    return found


DEFECTS = defects()
ODD_BYTES = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b":", b",", b"\x7f", b"\xff", b"\x0b", b"0", b"H",
    b"\x1f", b"\xc2\xa0",
]


def inputs(seed, count):
    """Yields the kind of each input and its bytes, without the marker."""
    rng = random.Random(seed)
    for _ in range(count):
        draft = Draft(rng)
        names = rng.sample(sorted(DEFECTS), rng.choice([0, 1, 1, 1, 1, 1, 1, 2, 2, 3]))
        for name in names:
            DEFECTS[name](draft, rng)
        sent = draft.bytes()
        if rng.random() < 0.15:
            names.append("odd bytes")
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                at = rng.randrange(len(sent) + 1)
                until = min(len(sent), at + rng.choice([0, 0, 1, 1, 2]))
                sent = sent[:at] + rng.choice([b"", *ODD_BYTES]) + sent[until:]
        if rng.random() < 0.1:
            names.append("pipelined")
            sent = Draft(rng).bytes() + sent
        yield " + ".join(names) or "valid", sent
