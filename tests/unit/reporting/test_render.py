from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len
from test_figure import bars, lines, many_points, named_points

from edt_cli.config import UsageError
from edt_cli.reporting.beside_paper import beside_paper
from edt_cli.reporting.drawn_figure import draw
from edt_cli.reporting.paper_tables import TABLES
from edt_cli.reporting.render import render
from edt_cli.reporting.report import report_text
from edt_cli.reporting.table import FORMS, Column, Measure, Row, Table
from edt_cli.reporting.tables import table_2, table_3

HOSTILE = "[red]*x*[/red] <b>|& \\end{tabular} $ # ^ _ ~ % { } \" ' ` é \x1b[2J\x1b]0;t\x07\r\n\u202eevil"
SHOWN = "[red]*x*[/red] <b>|& \\end{tabular} $ # ^ _ ~ % { } \" ' ` é [2J]0;t evil"


@pytest.fixture
def small(result) -> Table:
    runs = [
        result("llm-edt", label="LLM-EDT", llm="local (no LLM)", seed=seed, food=(hit, 0.4), kitchen=(0.5, 0.25))
        for seed, hit in ((42, 0.6), (44, 0.62), (46, 0.64))
    ]
    runs.append(result("sasrec", label="SASRec", food=(0.5, 0.3), kitchen=(0.55, None)))
    (table,) = table_2(runs)
    return table


@pytest.fixture
def hostile() -> Table:
    columns = (Column("H@10 " + HOSTILE, HOSTILE, ranked=True), Column("note", HOSTILE))
    rows = (Row(HOSTILE, (Measure(0.5, mark="best"), HOSTILE), HOSTILE), Row("=1+1", (None, "-"), HOSTILE))
    return Table(HOSTILE, columns, rows, (HOSTILE, HOSTILE), (HOSTILE,))


def test_terminal_without_styles_has_signs(small, printed):
    assert printed(render(small, "terminal")) == [
        "Table 2. Overall performance on shop: test, full ranking",
        "",
        "                                     food                      kitchen",
        "      Model                       H@10          N@10          H@10          N@10",
        "────────────────────────────────────────────────────────────────────────────────",
        "SRS   SASRec                   0.5000+       0.3000+       0.5500*",
        "────────────────────────────────────────────────────────────────────────────────",
        "Ours  LLM-EDT,           0.6200±.0200* 0.4000±.0000* 0.5000±.0000+  0.2500±.0000",
        "      local (no LLM)",
        "────────────────────────────────────────────────────────────────────────────────",
        "      Improv. (%)                24.00         33.33         -9.09",
        "",
        "Best *, second +.",
        "Mean ± sample deviation over seeds. Seed 42: SASRec. Seeds 42, 44, 46: LLM-EDT,",
        "local (no LLM).",
        "Users: food 10, kitchen 10.",
    ]


def test_terminal_is_bold_and_underlined_and_never_coloured(small, printed):
    for how in ({"color_system": "truecolor"}, {"color_system": "standard", "no_color": True}):
        lines = printed(render(small, "terminal"), force_terminal=True, **how)
        text = "\n".join(lines)
        assert set(re.findall(r"\x1b\[([\d;]*)m", text)) == {"0", "1", "4"}
        assert re.search(r"\x1b\[4m +0\.5000\x1b\[0m \x1b\[4m +0\.3000\x1b\[0m \x1b\[1m +0\.5500\x1b", text)
        assert "Best bold, second underlined." in lines


def test_terminal_in_ascii(small, printed):
    lines = printed(render(small, "terminal"), width=84, encoding="ascii")
    assert lines[5:9] == [
        "SRS   SASRec                    0.5000+        0.3000+        0.5500*",
        "-" * 84,
        "Ours  LLM-EDT,           0.6200+-.0200* 0.4000+-.0000* 0.5000+-.0000+  0.2500+-.0000",
        "      local (no LLM)",
    ]
    assert "r >= 0.95" in "\n".join(printed(render(TABLES[7], "terminal"), encoding="ascii"))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("number", TABLES)
def test_every_table_fits_and_loses_no_figure(printed, number, width):
    lines = printed(render(TABLES[number], "terminal"), width=width)
    assert all(cell_len(line) <= width for line in lines)
    figures = sorted(str(cell) for row in TABLES[number].rows for cell in row.cells if cell)
    end = len(lines) - lines[::-1].index("") - 1 if TABLES[number].notes else len(lines)
    shown = [word.strip("*+") for line in lines[:end] for word in line.split()]
    for figure in figures:
        assert shown.count(figure) >= figures.count(figure)


def test_80_columns_hold_table_2_of_a_pair_with_deviations(small, printed):
    assert sum(line.startswith("Ours") for line in printed(render(small, "terminal"), width=80)) == 1
    assert sum(line.startswith("Ours") for line in printed(render(small, "terminal"), width=60)) == 2


def test_table_3_of_one_seed(result, printed):
    runs = [
        result("llm-edt", label="LLM-EDT", variant=variant, llm="local (no LLM)", food=(hit, 0.4))
        for variant, hit in (("w/o DFT", 0.5), ("", 0.6))
    ]
    (table,) = table_3(runs)
    assert printed(render(table, "terminal"), width=78) == [
        "Table 3. Ablation study of LLM-EDT, local (no LLM), on shop: test, full",
        "ranking",
        "",
        "                              food",
        "Variant                    H@10    N@10",
        "───────────────────────────────────────",
        "LLM-EDT, local (no LLM) 0.6000* 0.4000*",
        "w/o DFT                 0.5000+ 0.4000*",
        "",
        "Best *, second +.",
        "Seed 42.",
        "Users: food 10.",
    ]


def test_markdown(small):
    assert render(small, "markdown") == (
        "**Table 2. Overall performance on shop: test, full ranking**\n"
        "\n"
        "|  | Model | food H@10 | food N@10 | kitchen H@10 | kitchen N@10 |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n"
        "| SRS | SASRec | <u>0.5000</u> | <u>0.3000</u> | **0.5500** |  |\n"
        "| Ours | LLM-EDT, local (no LLM) | **0.6200±.0200** | **0.4000±.0000** "
        "| <u>0.5000±.0000</u> | 0.2500±.0000 |\n"
        "|  | Improv. (%) | 24.00 | 33.33 | -9.09 |  |\n"
        "\n"
        "Best bold, second underlined.\n"
        "\n"
        "Mean ± sample deviation over seeds. Seed 42: SASRec. Seeds 42, 44, 46: LLM-EDT, local (no LLM).\n"
        "\n"
        "Users: food 10, kitchen 10.\n"
    )


def test_latex(small):
    assert render(small, "latex").splitlines()[4:18] == [
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        r" &  & \multicolumn{2}{c}{food} & \multicolumn{2}{c}{kitchen} \\",
        r"\cmidrule(lr){3-4} \cmidrule(lr){5-6}",
        r" & Model & H@10 & N@10 & H@10 & N@10 \\",
        r"\midrule",
        r"SRS & SASRec & \underline{0.5000} & \underline{0.3000} & \textbf{0.5500} &  \\",
        r"\midrule",
        r"Ours & LLM-EDT, local (no LLM) & \textbf{0.6200$\pm$.0200} & \textbf{0.4000$\pm$.0000} & "
        r"\underline{0.5000$\pm$.0000} & 0.2500$\pm$.0000 \\",
        r"\midrule",
        r" & Improv. (\%) & 24.00 & 33.33 & -9.09 &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip{\footnotesize Best bold, second underlined.}",
    ]


def test_csv_round_trip_of_raw_figures(small):
    text = render(small, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["Model"] for row in rows] == ["SASRec", "LLM-EDT, local (no LLM)", "Improv. (%)"]
    assert {row["table"] for row in rows} == {small.heading}
    for row, line in zip(small.rows, rows, strict=True):
        assert line[""] == row.group
        for column, cell in zip(small.columns, row.cells, strict=True):
            head = f"{column.group} {column.name}"
            if cell is None:
                assert line[head] == line[f"{head} deviation"] == line[f"{head} seeds"] == ""
            else:
                assert float(line[head]) == cell.mean
                assert line[f"{head} deviation"] == ("" if cell.deviation is None else repr(cell.deviation))
                assert int(line[f"{head} seeds"]) == cell.n


def test_csv_of_single_seeds_has_the_figures_alone():
    rows = list(csv.reader(io.StringIO(render(TABLES[4], "csv"))))
    assert rows[0] == ["table", "Model", "Cloth", "Sport"]
    assert rows[2][1:] == ["τ = 0.90", "0.8104", "0.7649"]


def test_json_carries_raw_figures_and_marks(small):
    document = json.loads(render(small, "json"))
    assert document["number"] == 2 and document["title"] == small.title
    assert document["columns"][2] == {"group": "kitchen", "name": "H@10"}
    assert [row["group"] for row in document["rows"]] == ["SRS", "Ours", ""]
    ours, gain = document["rows"][1:]
    assert ours["cells"][0] == {
        "mean": pytest.approx(0.62),
        "deviation": pytest.approx(0.02),
        "n": 3,
        "mark": "best",
    }
    assert gain["cells"][3] is None
    assert document["notes"] == list(small.notes)


@pytest.mark.parametrize("form", FORMS)
def test_no_control_code_of_a_label_gets_out(hostile, printed, form):
    text = "\n".join(printed(render(hostile, form), width=300)) if form == "terminal" else render(hostile, form)
    codes = {char for char in text if not char.isprintable()} - {"\n"}
    assert not codes
    assert "evil" in text


def test_terminal_shows_a_hostile_label_as_it_is(hostile, printed):
    lines = printed(render(hostile, "terminal"), width=400, force_terminal=True, color_system=None)
    assert lines[0].startswith(SHOWN) and SHOWN in lines[-1]
    row = next(line for line in lines if "0.5000" in line)
    assert row.count(SHOWN) == 3


def test_markdown_is_read_back_as_it_was(hostile):
    html = MarkdownIt("commonmark").enable("table").render(render(hostile, "markdown"))
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", html)
    assert len(cells) == 4 * 3
    escaped = SHOWN.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert cells[4:8] == [escaped, escaped, "<strong>0.5000</strong>", escaped]
    assert cells[8:] == ["", "=1+1", "", "-"]


def test_csv_of_hostile_labels_is_read_back(hostile):
    heads, first, second = csv.reader(io.StringIO(render(hostile, "csv")))
    assert heads == ["table", SHOWN, SHOWN, f"{SHOWN} H@10 {SHOWN}", f"{SHOWN} note"]
    assert first == [SHOWN, SHOWN, SHOWN, "0.5", SHOWN]
    assert second[2:] == ["=1+1", "", "-"]


def test_latex_escapes_what_tex_would_read(hostile):
    text = render(hostile, "latex")
    (row,) = (line for line in text.splitlines() if "0.5000" in line)
    cells = re.split(r"(?<!\\)&", row)
    assert len(cells) == 4
    assert cells[0].strip() == (
        r"{[}red]{*}x{*}{[}/red] \textless{}b\textgreater{}\textbar{}\& \textbackslash{}end\{tabular\} \$ \# "
        r"\textasciicircum{} \_ \textasciitilde{} \% \{ \} '' ' ` é {[}2J]0;t evil"
    )
    opened = len(re.findall(r"(?<!\\)\{", text))
    assert opened == len(re.findall(r"(?<!\\)\}", text)) > 0


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex with booktabs")
def test_latex_compiles(hostile, small, tmp_path):
    signs = Table("α − τ", (Column("α"),), (Row("τ − 0.05 ≥ α", (Measure(0.5, 0.1, 3, flag="†"),)),))
    beside = [beside_paper(replace(small, number=number)) for number in TABLES]
    figures = [bars(HOSTILE), lines(), named_points(), many_points()]
    body = report_text([hostile, small, signs, *TABLES.values(), *beside], figures, "latex")
    pytest.importorskip("matplotlib")
    (tmp_path / "figures.pdf").write_bytes(draw(figures, "pdf"))
    packages = "\\usepackage{booktabs,graphicx}"
    body += "\\includegraphics[width=.4\\textwidth,page=2]{figures.pdf}"
    source = f"\\documentclass{{article}}{packages}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (tmp_path / "tables.tex").write_text(source, "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_an_unknown_form_is_a_usage_error(small):
    with pytest.raises(UsageError, match="unknown form 'html'; there are: terminal, markdown, latex, csv, json"):
        render(small, "html")
