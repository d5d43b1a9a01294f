"""Values of every type that are hard to write or to hold, and what each becomes."""

import base64
import json
import math
from typing import Any

LOST: Any = object()
"""It becomes null, and is counted."""


class Partly(list[Any]):
    """A list of which something is lost: that becomes null, and the list is counted."""


SETUP = """
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION vector;
CREATE TYPE mood AS ENUM ('ok', 'so so');
CREATE TYPE pair AS (a int, b text, n numeric, j json, t timestamp);
CREATE SCHEMA other; CREATE TYPE other.point AS (x int); CREATE TYPE other.date AS ENUM ('x');
CREATE DOMAIN positive AS numeric CHECK (VALUE > 0);
CREATE DOMAIN recent AS date CHECK (VALUE > '2000-01-01');
CREATE DOMAIN numbers AS numeric[]; CREATE DOMAIN slots AS int4range;
CREATE DOMAIN shifts AS tstzmultirange; CREATE DOMAIN plane AS vector(2);
CREATE DOMAIN place AS point; CREATE TYPE span AS RANGE (subtype = float8);
"""
"""What the types need in a database."""

HOSTILE: dict[str, dict[str, Any]] = {
    "int2": {
        "-32768": -32768,
    },
    "int4[]": {
        "{{1,2},{3,NULL}}": [[1, 2], [3, None]],
        "{}": [],
    },
    "oid": {
        "4294967295": 4294967295,
    },
    "oid[]": {
        "{1,2}": [1, 2],
    },
    "int2vector": {
        "1 2": [1, 2],
    },
    "oidvector": {
        "1 2": [1, 2],
    },
    "numeric": {
        "NaN": LOST,
        "Infinity": LOST,
        "-Infinity": LOST,
        "1e400": LOST,
        "-1e400": LOST,
        "1e-500": 0.0,
        "0." + "1" * 16_000: float("0." + "1" * 400),
        "9" * 300 + "." + "1" * 10_000: float("9" * 300),
        "-1.7976931348623157e308": -17976931348623157 * 10**292,
        "1.7976931348623159e308": LOST,
    },
    "numeric[]": {
        "{1,NaN,NULL}": Partly([1, None, None]),
        "{{1.5},{2}}": [1.5, 2],
        "{}": [],
    },
    "numeric(10,2)": {
        "NaN": LOST,
        "1.50": 1.5,
    },
    "numeric(5,-2)": {
        "12345": 12300,
    },
    "numeric(3,-1000)": {
        "123e1000": LOST,
    },
    "numeric(3,1000)": {
        "123e-1000": 0.0,
    },
    "numeric(300,300)": {
        "0." + "1" * 300: float("0." + "1" * 300),
    },
    "numeric(300)": {
        "9" * 300: int("9" * 300),
    },
    "float4": {
        "NaN": LOST,
        "Infinity": LOST,
        "-Infinity": LOST,
        "3.4028235e38": 3.4028235e38,
        "1e-45": 1e-45,
        "-0": 0,
    },
    "float8": {
        "NaN": LOST,
        "Infinity": LOST,
        "-Infinity": LOST,
        "1.7976931348623157e308": 1.7976931348623157e308,
        "5e-324": 5e-324,
    },
    "float8[]": {
        "{NaN,1,-Infinity}": Partly([None, 1, None]),
    },
    "money": {
        "12.34": 12.34,
        "-92233720368547758.08": -9.223372036854776e16,
    },
    "money[]": {
        "{1.5}": [1.5],
    },
    "date": {
        "infinity": LOST,
        "-infinity": LOST,
        "4713-01-01 BC": -210863520000000,
        "5874897-12-31": 185331706992000000,
        "0001-12-31 BC": -62135683200000,
        "0001-01-01": "0001-01-01",
        "9999-12-31": "9999-12-31",
        "10000-01-01": 253402300800000,
    },
    "timestamp": {
        "infinity": LOST,
        "0044-03-15 12:00:00.0001 BC": -63517780800000,
        "294276-12-31 23:59:59.999999": 9224318016000000,
        "4713-01-01 00:00:00 BC": -210863520000000,
        "1969-12-31 23:59:59.999999": "1969-12-31T23:59:59.999999",
    },
    "timestamptz": {
        "2024-02-29 10:11:12.123456+05:30": "2024-02-29T04:41:12.123456+00:00",
        "-infinity": LOST,
        "20000-01-01": 568971820800000,
    },
    "timestamptz[]": {
        "{infinity,2024-01-01,NULL,20000-01-01}": Partly(
            [None, "2024-01-01T00:00:00+00:00", None, 568971820800000]
        ),
    },
    "date[]": {
        "{2024-01-01,infinity}": Partly(["2024-01-01", None]),
    },
    "time": {
        "24:00:00": "24:00:00",
    },
    "timetz": {
        "10:11:12+14": "10:11:12+14",
    },
    "interval": {
        "1 day 2 hours": "P1DT2H",
        "infinity": "infinity",
        "-178000000 years": "P-178000000Y",
    },
    "interval[]": {
        "{1 day}": ["P1D"],
    },
    "bool[]": {
        "{t,NULL}": [True, None],
    },
    "text": {
        "": "",
        "\x01\x1f\u2028\\\"'{}%s": "\x01\x1f\u2028\\\"'{}%s",
        "x" * 40_000: "x" * 40_000,
    },
    "text[]": {
        '{a,NULL,"b\nc"}': ["a", None, "b\nc"],
    },
    "char(5)": {
        "ab": "ab",
    },
    "char(5)[]": {
        "{ab,NULL}": ["ab", None],
    },
    "citext": {
        "Ab": "Ab",
    },
    "citext[]": {
        "{Ab,NULL}": ["Ab", None],
    },
    "name": {
        "n": "n",
    },
    '"char"': {
        "c": "c",
    },
    "bytea": {
        "\\x00ff": "AP8=",
        "\\x": "",
        "\\x" + "00" * 100: base64.b64encode(bytes(100)).decode(),
    },
    "bytea[]": {
        '{"\\\\x00ff",NULL}': ["AP8=", None],
    },
    "uuid[]": {
        "{123e4567-e89b-12d3-a456-426614174000,NULL}": [
            "123e4567-e89b-12d3-a456-426614174000",
            None,
        ],
    },
    "bit(3)": {
        "101": "101",
    },
    "varbit": {
        "1": "1",
        "": "",
    },
    "macaddr": {
        "08:00:2b:01:02:03": "08:00:2b:01:02:03",
    },
    "macaddr8": {
        "08:00:2b:01:02:03:04:05": "08:00:2b:01:02:03:04:05",
    },
    "inet": {
        "10.1.2.3/8": "10.1.2.3",
        "::1": "::1",
        "::ffff:1.2.3.4/96": "::ffff:1.2.3.4",
    },
    "inet[]": {
        "{10.1.2.3/8,NULL}": ["10.1.2.3", None],
    },
    "cidr": {
        "10.0.0.0/8": "10.0.0.0/8",
        "::/0": "::/0",
        "::ffff:1.2.3.0/120": {"gte": "::ffff:1.2.3.0", "lte": "::ffff:1.2.3.255"},
        "2001:db8::/32": "2001:db8::/32",
        "0.0.0.0/0": "0.0.0.0/0",
        "::ffff:0.0.0.0/96": {"gte": "::ffff:0.0.0.0", "lte": "::ffff:255.255.255.255"},
    },
    "cidr[]": {
        "{10.0.0.0/8,::ffff:1.2.3.4/128}": [
            "10.0.0.0/8",
            {"gte": "::ffff:1.2.3.4", "lte": "::ffff:1.2.3.4"},
        ],
    },
    "json": {
        '{"a":\n\r 1}': {"a": 1},
        "null": None,
        "5": {"value": 5},
        '"\\u0000"': {"value": "\x00"},
        '{"a":"\\ud800"}': {"a": "\ud800"},
        "[1,\n2]": {"value": [1, 2]},
        '{"a": 1e500}': {"a": math.inf},
        '{"\\ud800":1}': {"\ud800": 1},
        '{"a":' * 300 + "1" + "}" * 300: json.loads('{"a":' * 300 + "1" + "}" * 300),
        "1e999999": {"value": math.inf},
    },
    "json[]": {
        '{"{\\"a\\":\n1}",NULL,5,"null"}': [{"a": 1}, None, {"value": 5}, None],
    },
    "jsonb": {
        '{"a":1}': {"a": 1},
        "null": None,
        "[1]": {"value": [1]},
        '"x\\ny"': {"value": "x\ny"},
        '{"a":1e500}': {"a": 10**500},
        '{"":{"a.b":[]}}': {"": {"a.b": []}},
    },
    "jsonb[]": {
        '{"{\\"a\\":1}","2"}': [{"a": 1}, {"value": 2}],
    },
    "hstore": {
        'a=>1,b=>NULL,"c d"=>"x\ny"': {"a": "1", "b": None, "c d": "x\ny"},
        "": {},
    },
    "hstore[]": {
        '{"a=>1"}': [{"a": "1"}],
    },
    "ltree": {
        "a.b": "a.b",
    },
    "ltree[]": {
        "{a.b}": ["a.b"],
    },
    "tsvector": {
        "'a':1 'b c':2": ["a", "b c"],
        "": [],
    },
    "tsvector[]": {
        "{\"'a' 'b'\",NULL}": [["a", "b"], None],
    },
    "tsquery": {
        "a & b": "'a' & 'b'",
    },
    "mood": {
        "so so": "so so",
    },
    "mood[]": {
        '{ok,"so so"}': ["ok", "so so"],
    },
    "pair": {
        '(1,"x ""y""",NaN,"{""a"":\n1}",infinity)': {
            "a": 1,
            "b": 'x "y"',
            "n": "NaN",
            "j": {"a": 1},
            "t": "infinity",
        },
        "(,,,,)": {"a": None, "b": None, "n": None, "j": None, "t": None},
    },
    "pair[]": {
        '{"(1,a,2,,)",NULL}': [{"a": 1, "b": "a", "n": 2, "j": None, "t": None}, None],
    },
    "other.point": {
        "(5)": {"x": 5},
    },
    "other.date": {
        "x": "x",
    },
    "positive": {
        "1.5": 1.5,
        "NaN": LOST,
    },
    "positive[]": {
        "{1.5,NaN}": Partly([1.5, None]),
    },
    "recent": {
        "2024-01-01": "2024-01-01",
        "infinity": LOST,
    },
    "recent[]": {
        "{2024-01-01}": ["2024-01-01"],
    },
    "numbers": {
        "{1,NaN}": Partly([1, None]),
    },
    "numbers[]": {
        '{"{1,NaN}"}': ["{1,NaN}"],
    },
    "slots": {
        "[1,5)": {"gte": 1, "lt": 5},
    },
    "shifts": {
        "{[2024-01-01,2024-02-01)}": [
            {"gte": "2024-01-01T00:00:00.000000", "lt": "2024-02-01T00:00:00.000000"}
        ],
    },
    "plane": {
        "[1,2]": [1, 2],
    },
    "place": {
        "(2,1)": {"lat": 1, "lon": 2},
    },
    "int4range": {
        "[1,5)": {"gte": 1, "lt": 5},
        "(,5)": {"lt": 5},
        "empty": LOST,
        "(,)": {},
        "[2147483646,2147483647)": {"gte": 2147483646, "lt": 2147483647},
        "(,-2147483648)": {"lt": -2147483648},
    },
    "int8range": {
        "[1,5)": {"gte": 1, "lt": 5},
        "(9223372036854775805,9223372036854775806]": {
            "gte": 9223372036854775806,
            "lt": 9223372036854775807,
        },
    },
    "numrange": {
        "[1.5,2.5)": {"gte": 1.5, "lt": 2.5},
        "(1,1.0000000000000001)": {"gte": 1, "lte": 1.0},
        "(0.1,0.2)": {"gt": 0.1, "lt": 0.2},
        "[NaN,NaN]": LOST,
        "[1,Infinity]": {"gte": 1},
        "(-Infinity,5)": {"lt": 5},
        "[1e400,)": LOST,
        "(,1e400)": {},
        "empty": LOST,
        "[-1e400,1e400]": {},
        "[5,5]": {"gte": 5, "lte": 5},
        "(0,1e-500)": {"gte": 0, "lte": 0.0},
        "[Infinity,Infinity]": LOST,
        "(,-Infinity]": LOST,
        "[,]": {},
        "[1,NaN]": {"gte": 1},
        "[-1e131000,1e131000]": {},
    },
    "daterange": {
        "[2024-01-01,2024-02-01)": {"gte": "2024-01-01", "lt": "2024-02-01"},
        "[infinity,)": LOST,
        "(,-infinity]": LOST,
        "[2024-01-01,infinity]": {"gte": "2024-01-01"},
        "[0044-01-01 BC,20000-01-01)": {"gte": -63524131200000, "lt": 568971820800000},
        "empty": LOST,
    },
    "tsrange": {
        "[2024-01-01,2024-02-01)": {
            "gte": "2024-01-01T00:00:00.000000",
            "lt": "2024-02-01T00:00:00.000000",
        },
        "(2024-01-01 00:00:00.0001,2024-01-01 00:00:00.0002)": {
            "gte": "2024-01-01T00:00:00.000100",
            "lte": "2024-01-01T00:00:00.000200",
        },
        "(2024-01-01,2024-01-01 00:00:00.001]": {
            "gte": "2024-01-01T00:00:00.000000",
            "lte": "2024-01-01T00:00:00.001000",
        },
        "(2024-01-01,2024-01-01 00:00:00.001)": {
            "gte": "2024-01-01T00:00:00.000000",
            "lte": "2024-01-01T00:00:00.001000",
        },
        "[4713-01-01 BC,294276-12-31)": {"gte": -210863520000000, "lt": 9224317929600000},
        "(2024-01-01,2024-01-02)": {
            "gt": "2024-01-01T00:00:00.000000",
            "lt": "2024-01-02T00:00:00.000000",
        },
        "[2024-01-01,2024-01-01]": {
            "gte": "2024-01-01T00:00:00.000000",
            "lte": "2024-01-01T00:00:00.000000",
        },
        "(,)": {},
        "(294276-12-31 23:59:59,294276-12-31 23:59:59.999999)": {
            "gt": 9224318015999000,
            "lt": 9224318016000000,
        },
    },
    "tstzrange": {
        "[2024-01-01,)": {"gte": "2024-01-01T00:00:00.000000"},
        "[-infinity,infinity]": {},
    },
    "int4range[]": {
        '{"[1,5)",empty,NULL}': Partly([{"gte": 1, "lt": 5}, None, None]),
    },
    "int4multirange": {
        "{[1,5),[7,9)}": [{"gte": 1, "lt": 5}, {"gte": 7, "lt": 9}],
        "{}": [],
    },
    "int8multirange": {
        "{[1,2)}": [{"gte": 1, "lt": 2}],
    },
    "nummultirange": {
        "{[1.5,2),(3,),[NaN,NaN]}": [{"gte": 1.5, "lt": 2}, {"gt": 3}],
    },
    "datemultirange": {
        "{[2024-01-01,2024-02-01)}": [{"gte": "2024-01-01", "lt": "2024-02-01"}],
    },
    "tsmultirange": {
        "{(,)}": [{}],
    },
    "tstzmultirange": {
        "{[2024-01-01,infinity)}": [{"gte": "2024-01-01T00:00:00.000000"}],
    },
    "int4multirange[]": {
        '{"{[1,5)}",NULL}': [[{"gte": 1, "lt": 5}], None],
    },
    "span": {
        "[1,2)": "[1,2)",
    },
    "point": {
        "(2,1)": {"lat": 1, "lon": 2},
        "(180,-90)": {"lat": -90, "lon": 180},
        "(181,0)": LOST,
        "(0,91)": LOST,
        "(NaN,0)": LOST,
        "(0,Infinity)": LOST,
    },
    "point[]": {
        '{"(2,1)","(200,1)",NULL}': Partly([{"lat": 1, "lon": 2}, None, None]),
    },
    "line": {
        "{1,2,3}": "{1,2,3}",
    },
    "lseg": {
        "[(0,0),(1,1)]": "[(0,0),(1,1)]",
    },
    "box": {
        "(1,1),(0,0)": "(1,1),(0,0)",
    },
    "box[]": {
        "{(1,1),(0,0);(3,3),(2,2)}": ["(1,1),(0,0)", "(3,3),(2,2)"],
    },
    "path": {
        "((0,0),(1,1))": "((0,0),(1,1))",
    },
    "polygon": {
        "((0,0),(1,1))": "((0,0),(1,1))",
    },
    "circle": {
        "<(0,0),1>": "<(0,0),1>",
    },
    "vector(3)": {
        "[1,2,3]": [1, 2, 3],
        "[0,0,0]": [0, 0, 0],
        "[3e38,1,1]": LOST,
        "[9e16,1,1e-40]": [9e16, 1, 1e-40],
    },
    "vector": {
        "[1,2]": [1, 2],
    },
    "vector(4097)": {
        "[" + "0.5," * 4096 + "0.5]": [0.5] * 4097,
    },
    "vector(2)[]": {
        '{"[1,2]","[3e38,1]"}': Partly([[1, 2], None]),
    },
    "halfvec(2)": {
        "[1,65504]": [1, 65504],
    },
    "sparsevec(5)": {
        "{1:1,3:2}/5": "{1:1,3:2}/5",
    },
    "pg_lsn": {
        "16/B374D848": "16/B374D848",
    },
    "xid8": {
        "5": "5",
    },
    "xid": {
        "5": "5",
    },
    "regclass": {
        "pg_class": "pg_class",
    },
    "jsonpath": {
        "$.a": '$."a"',
    },
    "pg_snapshot": {
        "10:20:10": "10:20:10",
    },
    "tid": {
        "(0,1)": "(0,1)",
    },
    # PostgreSQL may be built without XML: then there is no value of it.
    "xml": {},
}
