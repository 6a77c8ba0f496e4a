"""Every format, whole and damaged: what is usable is read, what is not is counted by kind, and no traceback."""

import gzip
import json

import polars as pl
import pytest

from edt_cli.config import UsageError, UserError
from edt_cli.data.columns import Columns, match, parse_columns
from edt_cli.data.formats import bare_name
from edt_cli.data.readers import Reader, describe
from edt_cli.data.times import check_format
from edt_cli.workspace.events import Events


@pytest.fixture
def reader(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Reader(scratch, Events())


def review(user="A1", item="B1", time=1_500_000_000, **more):
    return json.dumps({"reviewerID": user, "asin": item, "unixReviewTime": time, **more})


def write(path, lines, ending=b"\n"):
    data = b"".join((line if isinstance(line, bytes) else line.encode()) + ending for line in lines)
    path.write_bytes(gzip.compress(data) if path.name.lower().endswith(".gz") else data)
    return path


def read(reader, path, columns=None, **options):
    frame, tally = reader.interactions(path, columns or Columns(), **options)
    return frame.select("user", "item", "time").collect().rows(), tally


@pytest.mark.parametrize("name", ["r.json", "r.json.gz", "r.jsonl", "R.JSON.GZ"])
def test_amazon_lines_in_file_order(reader, tmp_path, name):
    lines = [review(f"A{n % 7}", f"B{n % 5}", 1000 + n % 3, reviewText="x" * n, overall=5.0) for n in range(500)]
    rows, tally = read(reader, write(tmp_path / name, lines))
    assert rows == [(f"A{n % 7}", f"B{n % 5}", 1000 + n % 3) for n in range(500)]
    assert tally == {"lines": 500, "usable": 500}


DAMAGED = {
    "cut off or no record": [
        '{"reviewerID": "A2", "asin": "B2", "unixRev',
        "garbage}",
        "null,",
        review() + review(),
        b'{"reviewerID": "\xff\xfe", "asin": "B2", "unixReviewTime": 15}',
        b'{"reviewerID": "nul\x00", "asin": "B2", "unixReviewTime": 16}',
        "{'reviewerID': 'A1', 'asin': 'B1', 'unixReviewTime': 1}",
    ],
    "missing field": [
        "{}",
        "[1, 2]",
        "123",
        '"text"',
        "null",
        review(user=None),
        review(item=""),
        '{"asin": "B1"}',
    ],
    "wrong type": [
        review(user=5),
        review(item=["B1"]),
        review(item={"a": 1}),
        review(time="abc"),
        review(time=True),
        review(time=[1]),
        review(time=10**30),
        review(user="a\x1b[31m"),
        review(item="line\nbreak"),
    ],
    "time zero or negative": [review(time=0), review(time=-1), review(time="0")],
}


@pytest.mark.parametrize("name", ["r.json", "r.json.gz"])
def test_damaged_lines_are_counted_by_kind(reader, tmp_path, name):
    good = [review("A1", "B1", 10), review("A2", "B2", 20), review("A3", "B3", 30)]
    bad = [line for lines in DAMAGED.values() for line in lines]
    rows, tally = read(reader, write(tmp_path / name, [good[0], *bad[:9], "", good[1], *bad[9:], good[2]]))
    assert rows == [("A1", "B1", 10), ("A2", "B2", 20), ("A3", "B3", 30)]
    assert tally == {"lines": 3 + len(bad), "usable": 3, **{kind: len(lines) for kind, lines in DAMAGED.items()}}


@pytest.mark.parametrize(("kind", "line"), [(kind, line) for kind, lines in DAMAGED.items() for line in lines])
def test_each_damaged_line_is_of_its_kind(reader, tmp_path, kind, line):
    _, tally = read(reader, write(tmp_path / "r.json", [review(), line]))
    assert tally == {"lines": 2, "usable": 1, kind: 1}


def test_what_is_odd_but_usable(reader, tmp_path):
    lines = [
        review(time=1.5e9),
        review(time="1500000000"),
        review(user='quo"te\\', item="Ünïcode"),
        "  " + review() + "  ",
        review(reviewText="\u0000 \\u0000", style={"a": [1, {"b": 2}]}),
    ]
    rows, tally = read(reader, write(tmp_path / "r.json", lines, ending=b"\r\n"))
    assert tally == {"lines": 5, "usable": 5}
    assert [time for _, _, time in rows] == [1_500_000_000] * 5
    assert rows[2][:2] == ('quo"te\\', "Ünïcode")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("gone.json.gz", None, "No such file"),
        ("empty.json", b"", "is empty"),
        ("empty.json.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("page.json.gz", b"<html>404</html>", "not a gzip file"),
        ("nothing.json", b"\n\n", "no JSON object"),
        ("words.json", b"a\nb\n", "no JSON object"),
        ("other.json", b'{"a": 1}\n', "no column known as user"),
        ("bad.json", (review(time=0) + "\n").encode(), "no usable row: 1 lines, 1 time zero"),
        ("no.parquet", b"hello", "cannot read no.parquet"),
        ("header.csv", b"user,item,time\n", "no usable row"),
        ("twice.csv", b"user,item,item,time\n1,2,3,4\n", "several columns named 'item'.*user, item, item 2, time"),
        ("data.xlsx", b"PK", "does not show its format"),
        ("star*.csv", b"user,item,time\n1,2,3\n", "rename it"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(reader, tmp_path, name, data, says):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        reader.interactions(path, Columns())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9999])
def test_a_download_that_broke_off_says_so(reader, tmp_path, part):
    whole = gzip.compress("\n".join(review(f"A{n}", f"B{n * 7919}", n + 1) for n in range(20_000)).encode())
    path = tmp_path / "r.json.gz"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(UserError, match="breaks off in the middle"):
        reader.interactions(path, Columns())


def test_bits_that_flipped_lose_lines_and_no_more(reader, tmp_path):
    whole = bytearray(
        gzip.compress("\n".join(review(f"A{n}", f"B{n * 7919}", n + 1) for n in range(50_000)).encode())
    )
    whole[len(whole) // 2] ^= 0xFF
    path = tmp_path / "r.json.gz"
    path.write_bytes(whole)
    try:
        _, tally = read(reader, path)
    except UserError as error:
        assert "r.json.gz" in str(error)
    else:
        assert sum(count for kind, count in tally.items() if kind != "lines") == tally["lines"]
        assert tally["usable"] < tally["lines"]


CSV = "customer,sku,bought_at,price\nu1,i1,1500000000,3\nu2,i2,2017-07-14,4\nu1,i3,2017-07-14T04:40:00+02:00,5\n"
ROWS = [("u1", "i1", 1_500_000_000), ("u2", "i2", 1_499_990_400), ("u1", "i3", 1_500_000_000)]
NAMED = Columns({"user": "customer", "item": "sku", "time": "bought_at"})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_with_named_columns(reader, tmp_path, delimiter):
    path = write(tmp_path / "shop.csv", CSV.replace(",", delimiter).splitlines())
    assert read(reader, path, NAMED) == (ROWS, {"lines": 3, "usable": 3})


def test_csv_with_gzip_and_a_byte_order_mark(reader, tmp_path):
    path = write(tmp_path / "shop.csv.gz", ["\ufeff" + CSV.splitlines()[0], *CSV.splitlines()[1:]], ending=b"\r\n")
    assert read(reader, path, NAMED)[0] == ROWS


def test_csv_without_a_header(reader, tmp_path):
    path = write(tmp_path / "ratings.csv", ["u1,5.0,i1,1500000000", "u2,1.0,i2,1500000001"])
    columns = parse_columns("user,-,item,time", header=False)
    assert read(reader, path, columns)[0] == [("u1", "i1", 1_500_000_000), ("u2", "i2", 1_500_000_001)]


def test_damaged_csv_rows_are_counted(reader, tmp_path):
    lines = [
        "user_id,item_id,timestamp,note",
        'u1,i1,1577836800,"a, b"',
        "u2,i2",
        "u3,i3,1577836801,x,y",
        '"u4,i4,1577836802,"broken',
        b"u5,\xff\xfe,1577836802,q",
        ",i6,1577836802,q",
        "u7,i7,yesterday,q",
        "u8,i8,0,q",
        'u9,i9,2020-01-01,"many\nlines"',
    ]
    rows, tally = read(reader, write(tmp_path / "shop.csv", lines))
    assert rows == [("u1", "i1", 1577836800), ("u9", "i9", 1577836800)]
    assert tally["lines"] == 9
    assert sum(count for kind, count in tally.items() if kind != "lines") == 9
    for kind in ("missing columns", "too many columns", "invalid encoding", "missing field", "wrong type"):
        assert tally[kind] >= 1
    assert tally["time zero or negative"] == 1
    assert describe(tally).startswith("9 lines, ")


AT = [1_577_836_800, 1_580_515_200, 1_583_107_200]  # 2020-01-01, 2020-02-01, 2020-03-02
TIMES = {
    "s": AT,
    "ms": [at * 1000 for at in AT],
    "us": [at * 10**6 for at in AT],
    "ns": [at * 10**9 for at in AT],
    "fractions": [f"{at}.75" for at in AT],
    "exponents": [f"{at / 1e9}e9" for at in AT],
    "dates": ["2020-01-01", "2020-02-01", "2020-03-02"],
    "zones": ["2020-01-01 00:00:00Z", "2020-02-01 01:00:00+01", "2020-03-02"],
    "ymd": [20200101, 20200201, 20200302],
    "ymdhms": [20200101000000, 20200201000000, 20200302000000],
    "excel": [43831, 43862, 43892.0],
    "dates and seconds": [AT[0], "2020-02-01", AT[2]],
}


@pytest.mark.parametrize("unit", TIMES)
def test_times_of_any_unit(unit, reader, tmp_path):
    """The unit is that of the column: one value among them is what the others say that it is."""
    path = write(tmp_path / "t.csv", ["user,item,time", *(f"u,i{n},{at}" for n, at in enumerate(TIMES[unit]))])
    assert [time for _, _, time in read(reader, path)[0]] == AT


def test_places_in_a_sequence_stay_what_they_are(reader, tmp_path):
    path = write(tmp_path / "t.csv", ["user,item,time", *(f"u,i,{place}" for place in (0, 2, 40_000, 3))])
    assert [time for _, _, time in read(reader, path)[0]] == [0, 2, 40_000, 3]


HEADERS = {
    "pandas_index.csv": b",user,item,time\n0,u,i,1500000000\n",
    "comma_at_the_end.csv": b"user,item,time,\nu,i,1500000000,\n",
    "twice_what_nobody_needs.csv": b"user,item,price,price,time\nu,i,3,4,1500000000\n",
    "excel.csv": b"sep=;\nuser;item;time\nu;i;1500000000\n",
    "blank_and_comment.csv": b"\n# exported\nuser,item,time\nu,i,1500000000\n",
    "old_mac.csv": b"user,item,time\ru,i,1500000000\r",
    "utf16.csv": "user,item,time\nu,i,1500000000\n".encode("utf-16"),
    "spaces.txt": b"user item time\nu i 1500000000\n",
    "spaces_around.csv": b" user , item , time \n u , i , 1500000000 \n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_files_as_other_programs_begin_them(name, reader, tmp_path):
    (tmp_path / name).write_bytes(HEADERS[name])
    assert read(reader, tmp_path / name)[0] == [("u", "i", 1_500_000_000)]


def test_letters_of_other_encodings(reader, tmp_path):
    lines = "user,item,time\nJos\u00e9,caf\u00e9,1500000000\nAnn,tea,1500000001\n"
    path = tmp_path / "l.csv"
    path.write_bytes(lines.encode("latin-1"))
    assert [user for user, *_ in read(reader, path)[0]] == ["Ann"]
    assert [user for user, *_ in read(reader, path, Columns(encoding="latin-1"))[0]] == ["Jos\u00e9", "Ann"]


def test_a_file_without_times_keeps_its_order(reader, tmp_path):
    path = tmp_path / "order.txt"
    path.write_bytes(b"u a\nv b\nu c\n")
    columns = Columns(positions=("user", "item"), header=False)
    assert read(reader, path, columns)[0] == [("u", "a", 1), ("v", "b", 2), ("u", "c", 3)]
    wide = tmp_path / "wide.csv"
    wide.write_bytes(b"x" * 200_000 + b"\n")
    with pytest.raises(UserError, match="its first line is no line of a table"):
        read(reader, wide)


def test_a_format_that_is_named_is_taken(reader, tmp_path):
    lines = ["user,item,time", "u,i,01.02.2020", "u,j,soon", "u,k,02.03.2020"]
    columns = Columns(time_format=check_format("%d.%m.%Y"))
    rows, tally = read(reader, write(tmp_path / "t.csv", lines), columns)
    assert [time for _, _, time in rows] == AT[1:] and tally["wrong type"] == 1
    days = write(tmp_path / "d.csv", ["user,item,time", "u,i,43831", "u,j,12"])
    rows, tally = read(reader, days, Columns(time_format=check_format("excel")))
    assert [time for *_, time in rows] == AT[:1] and tally["time zero or negative"] == 1 == tally["usable"]
    assert check_format("auto") == check_format(None) == ""
    with pytest.raises(UsageError, match=r"--time-format takes auto, s, .*got 'weeks'"):
        check_format("weeks")


def test_parquet_with_numbers_and_dates(reader, tmp_path):
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [10, 20], "timestamp": [1_577_836_800, 1_577_836_801]})
    frame.write_parquet(tmp_path / "n.parquet")
    assert read(reader, tmp_path / "n.parquet")[0] == [("1", "10", 1_577_836_800), ("2", "20", 1_577_836_801)]
    dated = frame.with_columns(pl.from_epoch("timestamp").alias("timestamp"))
    dated.write_parquet(tmp_path / "d.parquet")
    assert read(reader, tmp_path / "d.parquet")[0] == read(reader, tmp_path / "n.parquet")[0]


def test_recbole_atomic_files(reader, tmp_path):
    lines = [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        'u1\t"i1\t5\t1577836800.0',
        "u2\ti2\t1\t12",
    ]
    path = write(tmp_path / "x.inter", lines)
    assert read(reader, path)[0] == [("u1", '"i1', 1577836800), ("u2", "i2", 12)]
    item = write(
        tmp_path / "x.item", ["item_id:token\tname:token_seq\tcategories:token_seq", "i2\tA Pan\tHome Kitchen"]
    )
    texts, _ = reader.items(item, Columns(), pl.Series(["i2"]))
    assert texts.row(0) == ("i2", None, "A Pan", None, "Home Kitchen", None)


def test_json_of_ones_own_may_have_numbers_for_ids(reader, tmp_path):
    path = write(tmp_path / "log.jsonl", ['{"user": 7, "item": 12, "time": 1500000000000}'])
    assert read(reader, path)[0] == [("7", "12", 1_500_000_000)]


def test_a_domain_column(reader, tmp_path):
    path = write(tmp_path / "all.csv", ["user,item,time,domain", "u,i,5,food", "u,j,6,", "u,k,7,pans"])
    frame, tally = reader.interactions(path, Columns(), domain_needed=True)
    assert frame.collect()["domain"].to_list() == ["food", "pans"]
    assert tally["missing field"] == 1
    with pytest.raises(UserError, match="no column known as domain"):
        reader.interactions(write(tmp_path / "b.csv", ["user,item,time", "u,i,5"]), Columns(), domain_needed=True)


def test_metadata_is_merged_and_cleaned(reader, tmp_path):
    lines = [
        json.dumps(
            {"asin": "B1", "title": "Tea &amp; <b>Pot</b>", "category": ["Home", "Tea"], "also_buy": ["B2"]}
        ),
        json.dumps({"asin": "B1", "title": "another title", "brand": "Lo\x1bw", "description": ["one", "two"]}),
        json.dumps({"asin": "B2", "title": "var a = (new Date()).getTime();", "description": []}),
        json.dumps({"asin": "B3"}),
        json.dumps({"asin": "B9", "title": "not wanted"}),
        json.dumps({"title": "no id"}),
        '{"asin": "B1", "tit',
        json.dumps({"asin": 12, "title": "id of a wrong type"}),
    ]
    texts, tally = reader.items(write(tmp_path / "meta.json.gz", lines), Columns(), pl.Series(["B1", "B2", "B3"]))
    assert texts.columns == ["item", "domain", "title", "brand", "category", "description"]
    assert texts.rows() == [
        ("B1", None, "Tea & Pot", "Lo w", "Home, Tea", "one, two"),
        ("B2", None, None, None, None, None),
        ("B3", None, None, None, None, None),
    ]
    assert tally == {
        "lines": 8, "usable": 5, "cut off or no record": 1, "missing field": 1, "wrong type": 1,
        "repeated item": 1, "page source for a title": 1,
    }  # fmt: skip


def test_metadata_of_2014_in_python_literals(reader, tmp_path):
    lines = [
        "{'asin': 'B1', 'title': \"Bob's \\\"Pan\\\"\", 'categories': [['Home', 'Pans']], 'price': 1.5}",
        "{'asin': 'B2', 'title': __import__('os').system('true')}",
        "{'asin': 'B3', 'title': 'cut off",
        "{'title': 'no id'}",
        "{'asin': 'B4', 'description': 'words'}",
    ]
    path = write(tmp_path / "meta.json", lines)
    texts, tally = reader.items(path, Columns(), pl.Series(["B1", "B2", "B3", "B4"]))
    assert texts.select("item", "title", "category", "description").rows() == [
        ("B1", 'Bob\'s "Pan"', "Home, Pans", None),
        ("B2", None, None, None),
        ("B3", None, None, None),
        ("B4", None, None, "words"),
    ]
    assert tally["missing field"] == 1


def test_line_ends_that_were_converted_twice_are_refused_with_what_mends_them(reader, tmp_path):
    path = tmp_path / "twice.csv"
    path.write_bytes(b"user,item,time\r\r\nu1,i1,1500000000\r\r\n")
    with pytest.raises(UserError, match=r"tr -d '\\r' < twice.csv"):
        reader.interactions(path, Columns())
    path.write_bytes(b'user,item,time,title\nu1,i1,1500000000,"two\r\r\nlines"\n')
    assert reader.interactions(path, Columns())[0].collect().height == 1


def test_a_lone_surrogate_does_no_harm(reader, tmp_path):
    path = write(
        tmp_path / "meta.json", ['{"asin": "B1", "title": "odd \\ud83d one"}', '{"asin": "B2", "title": "ok"}']
    )
    texts, _ = reader.items(path, Columns(), pl.Series(["B1", "B2"]))
    assert texts["title"].to_list()[-1] == "ok"


@pytest.mark.parametrize(
    ("text", "header", "says"),
    [
        ("user", True, "role=column"),
        ("user=", True, "role=column"),
        ("colour=x", True, "not a role"),
        ("user=a,user=b", True, "twice"),
        ("user=a", False, "without a header"),
        ("user,item,user", False, "twice"),
    ],
)
def test_wrong_columns_option(text, header, says):
    with pytest.raises(UsageError, match=says):
        parse_columns(text, header=header)


def test_columns_are_found_by_the_names_of_the_field():
    found = match(["UserID", "asin:token", "date", "Name"], Columns(), needed=("user", "item", "time"), file="f")
    assert found == {"user": "UserID", "item": "asin:token", "time": "date", "title": "Name"}
    with pytest.raises(UserError, match="has no column 'nix'"):
        match(["a"], Columns({"user": "nix"}), needed=("user",), file="f")


@pytest.mark.parametrize(
    ("name", "bare"), [("shop.csv", "shop"), ("a.b.json.gz", "a.b"), ("Toys.inter", "Toys"), ("x.PARQUET", "x")]
)
def test_bare_name(tmp_path, name, bare):
    assert bare_name(tmp_path / name) == bare


def test_a_foreign_encoding_is_told_of_items_too(tmp_path):
    heard = []
    (tmp_path / "scratch").mkdir()
    reader = Reader(tmp_path / "scratch", Events(listeners=(heard.append,)))
    path = write(tmp_path / "goods.csv", ["item,title", "a,Tea", "b,Käse".encode("latin-1")])
    texts, tally = reader.items(path, Columns(), pl.Series(["a", "b"]))
    assert (len(texts), tally["invalid encoding"]) == (1, 1)
    assert "1 lines of goods.csv are not UTF-8: try --encoding latin-1" in [r.get("message") for r in heard]


PURCHASES = [("u1", "a", 1_500_000_000), ("u2", "b", 1_500_000_060), ("u1", "b", 1_500_000_120)]
OBJECTS = [dict(zip(("user", "item", "time"), row, strict=True)) for row in PURCHASES]


def table(header="user,item,time", delimiter=",", more=""):
    lines = [*([header] if header else []), *(",".join(map(str, row)) for row in PURCHASES)]
    text = "\n".join(line.replace(",", delimiter) + more * (line != header) for line in lines)
    return text.encode()


OTHER_PROGRAMS = {
    "packed.csv": gzip.compress(table()),
    "array.json": json.dumps(OBJECTS).encode(),
    "array.json.gz": gzip.compress(json.dumps(OBJECTS, indent=2).encode()),
    "utf-16-without-mark.csv": table().decode().encode("utf-16-le"),
    "words.csv": table("User ID,item-id,Time"),
    "decimal-comma.csv": table(delimiter=";", more=",25"),
    "ratings.dat": table("", "::"),
    "quotes-are-text.tsv": table("user,item,time,title", "\t", '\t"Best" 5" pan'),
    "quotes-enclose.tsv": table("user,item,time,title", "\t", '\t"The ""Best""\n5"" pan"'),
    "repeated-column.csv": table("user,item,time,note,note", more=",,"),
    "empty-column.csv": table("user,item,time,title", more=","),
    "zones.csv": table()
    .replace(b"1500000000", b"2017-07-14T08:10+05:30")
    .replace(b"1500000060", b"2017-07-14T02:41Z"),
}


@pytest.mark.parametrize("name", OTHER_PROGRAMS)
def test_files_as_other_programs_write_them(reader, tmp_path, name):
    (tmp_path / name).write_bytes(OTHER_PROGRAMS[name])
    columns = parse_columns("user,item,time" if name.endswith(".dat") else None, header=not name.endswith(".dat"))
    assert read(reader, tmp_path / name, columns) == (PURCHASES, {"lines": 3, "usable": 3})


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.zip", b"PK\x03\x04...", "a zip archive .*unpack it"),
        ("a.csv", b"PK\x03\x04...", "a zip archive or an Excel workbook: .*save it as CSV"),
        ("a.xls", b"\xd0\xcf\x11\xe0...", "Excel workbook: save it as CSV"),
        ("a.pq", b"PAR1...", r"Parquet: let its name end in \.parquet"),
        ("a.csv.xz", b"\xfd7zXZ...", "compressed by xz: unpack it"),
        ("a.csv", b"user,item,time\nu,x,13.07.2017\n", "1 wrong type; .*--time-format"),
        ("a.csv", b"user,item,time\n", "no usable row: 0 lines"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(reader, tmp_path, name, data, says):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=says):
        reader.interactions(tmp_path / name, Columns())


@pytest.mark.parametrize("ids", [("007", "7"), ("9007199254740993", "9007199254740992"), ("1e3", "1000")])
def test_ids_that_look_like_numbers_stay_as_they_are(reader, tmp_path, ids):
    lines = ["user,item,time", *(f"{name},{name},{1_500_000_000 + n}" for n, name in enumerate(ids))]
    rows, _ = read(reader, write(tmp_path / "a.csv", lines))
    assert tuple(user for user, _, _ in rows) == tuple(item for _, item, _ in rows) == ids
    objects = [json.dumps({"user": name, "item": name, "time": 1_500_000_000}) for name in ids]
    rows, _ = read(reader, write(tmp_path / "a.jsonl", objects))
    assert tuple(user for user, _, _ in rows) == ids
