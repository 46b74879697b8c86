"""A list of small tables as people have them, each with what must come out."""

import gzip
import io

import numpy as np
import pytest
from onepass.data import read_table


def source(contents, name="t.csv"):
    """An open file with this text or these bytes."""
    file = io.BytesIO(contents if isinstance(contents, bytes) else contents.encode())
    file.name = name
    return file


def lines(head, cells, end="\n"):
    """A header line, and a row for each i in range(len(cells)) with its cell at ``{}``."""
    first, row = head
    return first + end + "".join(row.format(c, i=i) + end for i, c in enumerate(cells))


AB = ("a,y", "{i},{}")
X2 = [[1.0], [2.0]]
Y2 = [2.5, 3.5]
TICKETS = [(f"A/{i}", str(i))[i % 3 == 0] for i in range(99)]
EURO = "\u20ac"

# text, options, x, y (indices of classes or numbers), classes
READ = {
    "plain": ("a,y\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "a byte-order mark": ("\ufeffa,y\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "CRLF": ("a,y\r\n1,2.5\r\n2,3.5\r\n", {}, X2, Y2, None),
    "lone CR": ("a,y\r1,2.5\r2,3.5\r", {}, X2, Y2, None),
    "no last line end": ("a,y\n1,2.5\n2,3.5", {}, X2, Y2, None),
    "blank lines": ("\na,y\n\n1,2.5\n , \n2,3.5\n\n", {}, X2, Y2, None),
    "spaces around": (" a , y \n 1 , 2.5 \n 2 ,\t3.5\n", {}, X2, Y2, None),
    "semicolons and decimal commas": ("a;y\n1,0;2,5\n2,0;3,5\n", {}, X2, Y2, None),
    "decimal commas beside dates and words": (
        "d;c;a;b;y\n02.01.2024;x, z. B.;1,25;3;2,5\n03.01.2024;p.q;-,5;4;3\n"
        "04.01.2024;x;1e-2;;-1,5\n",
        {"drop": ["d", "c"], "missing": "impute"}, [[1.25, 3], [-0.5, 4], [0.01, 3.5]],
        [2.5, 3, -1.5], None),
    "decimal commas and gaps": ("a;y\n1,5;2,5\nNA;3,5\n;4,5\n 2,5 ;5,5\n", {"missing": "impute"},
                                [[1.5], [2], [2], [2.5]], [2.5, 3.5, 4.5, 5.5], None),
    "a decimal comma late": (lines(("a;y", "{};{i},5"), ["7"] * 60 + ["7,25"]), {},
                             [[7]] * 60 + [[7.25]], [i + 0.5 for i in range(61)], None),
    "a sign of thousands late": (lines(("a;y", "{};{i},5"), ["7,25"] * 60 + ["1.007,25"]), {},
                                 [[7.25]] * 60 + [[1007.25]], [i + 0.5 for i in range(61)], None),
    "a minus of Unicode late": (lines(("a;y", "{};{i},5"), ["7,25"] * 60 + ["\u22121,5"]), {},
                                [[7.25]] * 60 + [[-1.5]], [i + 0.5 for i in range(61)], None),
    "zeros before decimal commas": ("a;y\n00,5;2,5\n-01;3,5\n", {}, [[0.5], [-1]], Y2, None),
    "three decimals behind commas": ("a;b;y\n1,205;0,5;7,5\n2,300;1,5;8\n", {},
                                     [[1.205, 0.5], [2.3, 1.5]], [7.5, 8], None),
    "thousands by commas beside points": ("a;b;y\n1,205;0.5;7.5\n2,300;1.5;8\n", {},
                                          [[1205, 0.5], [2300, 1.5]], [7.5, 8], None),
    "thousands by commas, told": ("a;y\n1,205;7\n2,300;8\n", {"decimal": "."},
                                  [[1205], [2300]], [7, 8], None),
    "decimal commas told": ("a;b;y\n1,205;5;7\n2,300;1.006;8\n", {"decimal": ","},
                            [[1.205, 5], [2.3, 1006]], [7, 8], None),
    "decimal commas without a header": ("1,0;2,5\n2,0;3,5\n", {"header": False}, X2, Y2, None),
    "bars": ("a|y\n1|2.5\n2|3.5\n", {}, X2, Y2, None),
    "tabs": ("a\ty\n1\t2.5\n2\t3.5\n", {}, X2, Y2, None),
    "another separator": ("a:y\n1:2.5\n2:3.5\n", {"sep": ":"}, X2, Y2, None),
    "separators in names": ('"a;1, in m",y\n1,2.5\n2,3.5\n', {}, X2, Y2, None),
    "separators in cells": ('a,y\n1,"x, y"\n2,z\n3,"x, y"\n4,z\n', {}, [[1], [2], [3], [4]],
                            [0, 1, 0, 1], ("x, y", "z")),
    "line breaks in names": ('"a\nin m",y\n1,2.5\n2,3.5\n', {}, X2, Y2, None),
    "line breaks in cells": ('a,note,y\n1,"one\ntwo\n\nfour",2.5\n2,"",3.5\n', {"drop": ["note"]},
                             X2, Y2, None),
    "quotes everywhere": ('"a","y"\n"1","2.5"\n"2","3.5"\n', {}, X2, Y2, None),
    "quotes and gaps": ('"a","b","y"\n"","1","x, y"\n"2","3","z"\n4,"5","x, y"\n"6",7,"z"\n',
                        {"missing": "impute"}, [[4, 1], [2, 3], [4, 5], [6, 7]], [0, 1, 0, 1],
                        ("x, y", "z")),
    "codes in quotes": ('"a","y"\n"7","2.5"\n"07","3.5"\n"07","4.5"\n7,5.5\n',
                        {"categorical": "auto"}, [[0, 1], [1, 0], [1, 0], [0, 1]],
                        [2.5, 3.5, 4.5, 5.5], None),
    "thousands in quotes": ('"a","y"\n"1,205","2.5"\n"1,200,300","3.5"\n', {},
                            [[1205], [1200300]], Y2, None),
    "a single quote in a word": ("a,y\n1,it's\n2,it's\n3,'\n4,'\n", {}, [[1], [2], [3], [4]],
                                 [1, 1, 0, 0], ("'", "it's")),
    "spaces within quotes": ('a,y\n1," x "\n2, "z"\n3,"z"\n4,x\n', {}, [[1], [2], [3], [4]],
                             [0, 1, 1, 0], ("x", "z")),
    "doubled quotes": ('a,y\n1,"5"" pipe"\n2,"rod"\n3,rod\n4,"5"" pipe"\n', {},
                       [[1], [2], [3], [4]], [0, 1, 1, 0], ('5" pipe', "rod")),
    "an unnamed index": (",a,y\n7,1,2.5\n9,2,3.5\n", {}, X2, Y2, None),
    "an index as pandas reads it again": ("Unnamed: 0,a,y\n0,1,2.5\n1,2,3.5\n", {}, X2, Y2, None),
    "a trailing separator": ("a,y,\n1,2.5,\n2,3.5,\n", {}, X2, Y2, None),
    "trailing separators in the rows": ("a;y\n1;2,5;\n2;3,5;\n", {}, X2, Y2, None),
    "trailing separators, many": ("a,y,,\n1,2.5,,\n2,3.5,,\n,,,\n,,,\n", {}, X2, Y2, None),
    "trailing separators in the rows, many": ("a;y\n1;2,5;;;\n2;3,5;;;\n", {}, X2, Y2, None),
    "trailing separators of the names": ("a,y,,\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "the separator told": ("sep=;\na;y\n1,0;2,5\n2,0;3,5\n", {}, X2, Y2, None),
    "a separator told that is rare": ("sep=^\r\na^y\r\n1^2.5\r\n2^3.5\r\n", {}, X2, Y2, None),
    "the separator told, and comments": ("\ufeff\"sep=\t\"\n# by me\na, b\ty\n1\t2.5\n2\t3.5\n", {},
                                         X2, Y2, None),
    "the separator told, no header": ("sep=,\n1,2.5\n2,3.5\n", {"header": False}, X2, Y2, None),
    "a title": ("Sales of 2024\n\na,y\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "titles with separators": ("Sales;;\nof 2024;;\n;;\na;b;y\n1,0;1;2,5\n2,0;1;3,5\n",
                               {"drop": ["b"]}, X2, Y2, None),
    "a title in a file whose lines end in separators": (
        "Sales 2024;;;\n;;;\na;b;y;\n1,0;1;2,5;\n2,0;1;3,5;\n", {"drop": ["b"]}, X2, Y2, None),
    "titles, and many separators behind": (
        "Sales 2024,,,,\nby me,,,,\na,b,y,,\n1,1,2.5,,\n2,1,3.5,,\n", {"drop": ["b"]}, X2, Y2,
        None),
    "a title with separators, and none behind the rows": (
        "Sales 2024;;;\na;b;y;\n1,0;1;2,5\n2,0;1;3,5\n", {"drop": ["b"]}, X2, Y2, None),
    "a title with fewer separators than the rows": (
        "Sales 2024,,\na,b,y,,\n1,1,2.5,,\n2,1,3.5,,\n", {"drop": ["b"]}, X2, Y2, None),
    "a title above an index": ("Sales,,,\n,a,y,\n0,1,2.5,\n1,2,3.5,\n", {}, X2, Y2, None),
    "a title above a column without names and cells": (
        "Sales,,,\na,,y,\n1,,2.5,\n2,,3.5,\n", {}, X2, Y2, None),
    "row names as R writes them": ('"a","y"\n"r1",1,2.5\n"r2",2,3.5\n', {}, X2, Y2, None),
    "row numbers as R writes them": ('"a","y"\n"1",1,2.5\n"2",2,3.5\n', {}, X2, Y2, None),
    "a name that begins as a total": ("c,a,y\nx,1,2.5\nTotal Recall,2,3.5\n", {"drop": ["c"]},
                                      X2, Y2, None),
    "a class called total": (lines(AB, ["total", "part"] * 2), {}, [[0], [1], [2], [3]],
                             [1, 0, 1, 0], ("part", "total")),
    "comment lines": ("# exported 2024, by me\n#\na,y\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "a header behind a comment sign": ("# a,y\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "no header": ("1,2.5\n2,3.5\n", {"header": False}, X2, Y2, None),
    "years as names": ("2019,y\n1,2.5\n2,3.5\n", {"header": True}, X2, Y2, None),
    "truth values": ("a,y\nTrue,2.5\nFALSE,3.5\ntrue,1.5\n", {}, [[1], [0], [1]], [2.5, 3.5, 1.5],
                     None),
    "truth values as classes": (lines(AB, ["True", "False"] * 2), {}, [[0], [1], [2], [3]],
                                [1, 0, 1, 0], ("False", "True")),
    "dates left out": ("d,a,y\n2024-01-02,1,2.5\n2024-01-03,2,3.5\n", {"drop": ["d"]}, X2, Y2,
                       None),
    "dates that name classes": (lines(AB, ["2024-01-02", "2024-01-03"] * 2),
                                {"task": "classification"}, [[0], [1], [2], [3]], [0, 1, 0, 1],
                                ("2024-01-02", "2024-01-03")),
    "names that begin as months": (lines(AB, ["Mark 3", "Mayor 7"] * 2), {},
                                   [[0], [1], [2], [3]], [0, 1, 0, 1], ("Mark 3", "Mayor 7")),
    "leading zeros": (lines(AB, ["007", "07", "7", "07"]), {}, [[0], [1], [2], [3]], [0, 1, 2, 1],
                      ("007", "07", "7")),
    "leading zeros in a feature": (lines(("c,y", "{},{i}.5"), ["007", "7", "007", "7"]),
                                   {"categorical": "auto"}, [[1, 0], [0, 1]] * 2,
                                   [0.5, 1.5, 2.5, 3.5], None),
    "a leading zero late": (lines(("c,y", "{},{i}.5"), ["7", "8"] * 60 + ["08"] * 2),
                            {"categorical": "auto"}, [[0, 1, 0], [0, 0, 1]] * 60 + [[1, 0, 0]] * 2,
                            [i + 0.5 for i in range(122)], None),
    "zeros before decimals": ("a,y\n00.5,2.5\n-01,3.5\n", {}, [[0.5], [-1]], Y2, None),
    "19 digits": (lines(AB, [2**62 + 1, 2**62, 2**62 + 1, 2**62]), {}, [[0], [1], [2], [3]],
                  [1, 0, 1, 0], (str(2**62), str(2**62 + 1))),
    "underscores": (lines(AB, ["1_0", "1_1", "1_0", "1_1"]), {}, [[0], [1], [2], [3]], [0, 1, 0, 1],
                    ("1_0", "1_1")),
    "whole numbers": (lines(AB, ["10", "9", "9", "10"]), {}, [[0], [1], [2], [3]], [1, 0, 0, 1],
                      ("9", "10")),
    "currency": ('a,y\n$1.00,"1,205.60 EUR"\n-$2.00,12 EUR\n', {}, [[1], [-2]], [1205.6, 12], None),
    "currency behind": (f"a;y\n1 {EURO};2,5\n2,00 {EURO};3,5\n", {}, X2, Y2, None),
    "units": ("a,b,c,y\n5 kg,12px,3h,2.5\n7.5 kg,13px,-4h,3.5\n", {},
              [[5, 12, 3], [7.5, 13, -4]], Y2, None),
    "units in capitals": ("a,y\n1 KG,2.5\n2 kg,3.5\n", {}, X2, Y2, None),
    "a column without names and cells": ("a,,y\n1,,2.5\n2,,3.5\n", {}, X2, Y2, None),
    "a separator told that is not there": ("sep=;\na,y\n1,2.5\n2,3.5\n", {}, X2, Y2, None),
    "units in the plural": ("a,y\n1 day,2.5\n2 days,3.5\n", {}, X2, Y2, None),
    "units with thousands": ('a;y\n"1.200,5 m²";2,5\n3,0 m²;3,5\n', {}, [[1200.5], [3]], Y2, None),
    "units of units": ("a,b,y\n1 mg/dL,1 km/h,2.5\n2 mg/dL,2 km/h,3.5\n", {}, [[1, 1], [2, 2]], Y2,
                       None),
    "a target with a unit": (lines(AB, ["3 min", "4 min", "3 mins", "5 min"]), {},
                             [[0], [1], [2], [3]], [3, 4, 3, 5], None),
    "names with units": ("100m,24h,5%,y\n1,2,3,2.5\n2,3,4,3.5\n", {}, [[1, 2, 3], [2, 3, 4]], Y2,
                         None),
    "names that begin with a digit": (lines(AB, ["4WD", "2WD", "2WD", "4WD"]), {},
                                      [[0], [1], [2], [3]], [1, 0, 0, 1], ("2WD", "4WD")),
    "generations": (lines(AB, ["4G", "5G", "5G", "4G"]), {}, [[0], [1], [2], [3]], [0, 1, 1, 0],
                    ("4G", "5G")),
    "percent": ("a,y\n12.3%,2.5\n-5 %,3.5\n", {}, [[0.123], [-0.05]], Y2, None),
    "thousands": ('a,y\n"1,205",2.5\n"1,200,300",3.5\n', {}, [[1205], [1200300]], Y2, None),
    "German thousands": ("a;y\n1.205;2,5\n12.300;3,5\n", {}, [[1205], [12300]], Y2, None),
    "German thousands, many": ("a;y\n1.205;7\n1.200.300;8\n", {}, [[1205], [1200300]], [7, 8],
                               None),
    "Swiss thousands": ("a;y\n1'205.5;2.5\n1’200’300;3.5\n", {}, [[1205.5], [1200300]], Y2, None),
    "French thousands": ("a;y\n1\u202f205,5;2,5\n1\xa0200;3,5\n", {}, [[1205.5], [1200]], Y2, None),
    "three decimals": ("a;b;y\n1.205;0.5;7\n2.300;1.5;8\n", {}, [[1.205, 0.5], [2.3, 1.5]], [7, 8],
                       None),
    "three decimals between commas": ("a,y\n1.205,7\n2.3,8\n", {}, [[1.205], [2.3]], [7, 8], None),
    "decimals by option": ("a;y\n1.205;7\n2.300;8\n", {"decimal": ","}, [[1205], [2300]],
                               [7, 8], None),
    "a minus of Unicode": ("a,y\n\u22121.5,2.5\n2,\u22123.5\n", {}, [[-1.5], [2]], [2.5, -3.5],
                           None),
    "NA as a class": (lines(AB, ["NA", "EU", "EU", "NA", "-", "-"]), {},
                      [[0], [1], [2], [3], [4], [5]], [2, 1, 1, 2, 0, 0], ("-", "EU", "NA")),
    "large targets": (lines(AB, ["1e39", "2.5e39", "-3e39"]), {}, [[0], [1], [2]],
                      [1e39, 2.5e39, -3e39], None),
    "UTF-16": ("größe,y\n1,2.5\n2,3.5\n".encode("utf-16"), {}, X2, Y2, None),
    "UTF-16 without a mark": ("größe,y\n1,2.5\n2,3.5\n".encode("utf-16-be"),
                              {"encoding": "utf-16-be"}, X2, Y2, None),
    "Latin-1": ("größe,y\n1,2.5\n2,3.5\n".encode("latin-1"), {"encoding": "latin-1"}, X2, Y2, None),
    "gz": (gzip.compress(b"a,y\n1,2.5\n2,3.5\n"), {}, X2, Y2, None),
    "positions": ("y,a,b\n2.5,1,x\n3.5,2,x\n", {"target": 1, "drop": [-1]}, X2, Y2, None),
    "empty columns": ("e,a,f,y\n,1,NA,2.5\n-,2,,3.5\n", {}, X2, Y2, None),
    "the target before the last": ("a,y,z\n1,2.5,7\n2,3.5,8\n", {"drop": ["z"], "target": "y"},
                                   X2, Y2, None),
    "gaps of dashes": ("a,y\n---,2.5\n1,3.5\n--,4.5\n", {"missing": "impute"}, [[1], [1], [1]],
                       [2.5, 3.5, 4.5], None),
    "some features": ("a,b,y\n1,9,2.5\n2,9,3.5\n", {"features": ["a"]}, X2, Y2, None),
    "gaps of a database": ("a,y\n1,2.5\n\\N,3.5\n3,4.5\n", {"missing": "impute"},
                           [[1], [2], [3]], [2.5, 3.5, 4.5], None),
    "the largest numbers": ("a,b,y\n1e308,1,2.5\n-1e308,2,3.5\n1e308,3,4.5\n1e308,6,1.5\n", {},
                            [[1e308, 1], [-1e308, 2], [1e308, 3], [1e308, 6]],
                            [2.5, 3.5, 4.5, 1.5], None),
    "medians": ("a,y\n1,2.5\n,3.5\n#N/A,4.5\n3,5.5\n5,6.5\n", {"missing": "impute"},
                [[1], [3], [3], [3], [5]], [2.5, 3.5, 4.5, 5.5, 6.5], None),
    "rows without a target": ("a,y\n1,2.5\n9,-\n2,3.5\n9,\n", {"missing": "impute"}, X2, Y2, None),
    "words": (lines(("c,y", "{},{i}.5"), ["x", "z", "x", "z", "", ""]), {"categorical": "auto"},
              [[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]],
              [0.5, 1.5, 2.5, 3.5, 4.5, 5.5], None),
    "a name among its cells": (
        lines(("no,y", "{},{i}.5"), ["yes", "no"] * 2), {"categorical": "auto"},
        [[0, 1], [1, 0]] * 2, [0.5, 1.5, 2.5, 3.5], None),
    "names among the cells of some, and numbers": (
        "a,b,c,y\n" + "a,b,1,b\nb,a,2,y\n" * 2, {"categorical": "auto"},
        [[1, 0, 0, 1, 1], [0, 1, 1, 0, 2]] * 2, [0, 1, 0, 1], ("b", "y")),
    "names among the cells, told": (
        "red,small,yes\n" + "blue,small,no\nred,large,yes\n" * 2,
        {"categorical": "auto", "header": True},
        [[1, 0, 0, 1], [0, 1, 1, 0]] * 2, [0, 1, 0, 1], ("no", "yes")),
    "no header, all words, told": (
        "red,yes\nblue,no\n" * 2, {"categorical": "auto", "header": False},
        [[0, 1], [1, 0]] * 2, [1, 0, 1, 0], ("no", "yes")),
    "many digits": ("a,y\n0.1000000000000000055511151231257827,2.5\n1e-320,3.5\n", {},
                    [[0.1], [1e-320]], Y2, None),
}  # fmt: skip

# text, options, words of the message
REFUSED = {
    "nothing": ("", {}, "the file is empty, expected a header line"),
    "blank lines alone": ("\n\n", {}, "the file is empty"),
    "a header alone": ("a,y\n", {}, "one line, expected a header line and at least one row"),
    "one column": ("a\n1\n2\n", {}, "one column, 'a', expected features and a target"),
    "lines quoted as a whole": (
        '"a,y"\n"1,2"\n"3,4"\n', {}, "one column, 'a,y'.*lines are quoted as a whole"),
    "no header": ("1,2.5\n2,3.5\n", {}, r"the first line is numbers.*--no-header"),
    "no header, one word": ("5.0,3.4,oak\n4.5,3.5,ash\n", {}, "column 1 is called '5.0' and holds"),
    "no header, decimal commas": ("5,0;3,4;oak\n4,5;3,5;ash\n", {}, "column 1 is called '5,0' and"),
    "no header, all words": (
        "red,small,yes\nblue,large,no\nred,large,no\nblue,small,yes\n", {"categorical": "auto"},
        "'red', 'small', 'yes' are names of columns and cells of theirs; is the first line data"
        ".*--no-header.*--header"),
    "names again among words": (
        "a,c,y\nu,p,1\nv,q,2\n".replace("1", "x").replace("2", "z") * 2, {"categorical": "auto"},
        "row 3 holds the names of the columns again, 'a', 'c', 'y'; delete the line.*--no-header"),
    "names again among numbers": (
        "a,y\n1,2.5\na,y\n2,3.5\n", {},
        "column 'a', row 2: 'a' .*; delete the line if the names of the columns are repeated th"),
    "numbers among many words": (
        lines(("name,ticket,y", "n{i},{},{i}.5"), TICKETS), {"categorical": "auto"},
        r"column 'name', row 1: 'n0' is text; too many words to encode: 'name' \(99 words\), "
        r"'ticket' \(99 words\).*--drop name,ticket"),
    "numbers among many words, first": (
        lines(("ticket,y", "{},{i}.5"), TICKETS), {},
        r"column 'ticket', row 2: 'A/1' is not a finite number; leave it out"),
    "a web page": ("\n<!DOCTYPE html>\n<p>a,b</p>\n", {}, "t.csv is a web page, HTML"),
    "Excel's other format": ('<?xml version="1.0"?>\n<Workbook>,</Workbook>\n', {}, "t.csv is XML"),
    "JSON": ('[{"a": 1, "y": 2}]\n', {}, "t.csv is JSON.*read_json"),
    "lines of JSON": ('{"a": 1, "y": 2}\n{"a": 2, "y": 3}\n', {}, "t.csv is JSON"),
    "a PDF": (b"%PDF-1.4\n1,2\n", {}, "t.csv is a PDF"),
    "a database": (b"SQLite format 3\0abc", {}, "t.csv is a database of SQLite"),
    "packed twice": (gzip.compress(gzip.compress(b"a,y\n1,2\n")), {}, "t.csv is packed twice"),
    "an encoding that is none": ("a,y\n1,2\n", {"encoding": "undefined"},
                                 "'encoding' is 'undefined', expected the name"),
    "a name twice": ("a,a,y\n1,2,3\n2,3,4\n", {}, "two columns are called 'a'; rename one of them"),
    "no header, all words, one twice": ("red,red,yes\nblue,red,no\n" * 2, {"categorical": "auto"},
                                        "two columns are called 'red'.*--no-header"),
    "no name": ("a,,y\n1,2,3.5\n2,3,4.5\n", {}, "column 2 has no name"),
    "a line of units": ("a,b,y\nm,s,kg\n1,2,3.5\n2,3,4.5\n", {}, "row 1: 'm' .*line if it has u"),
    "a trailing column with cells": ("a,y,\n1,2.5,\n2,3.5,x\n", {}, "column 3 has no name"),
    "a title of two cells, and separators": (
        "Sales,EUR,,\na,b,y,\n1,2,3.5,\n2,3,4.5,\n", {},
        "column 3 has no name.*if line 1 is a title.*delete"),
    "one name, and rows of several cells": ("a;;\nx;z;\nx;w;\n", {},
                                            "column 2 has no name.*if line 1 is"),
    "a title of two cells": ("Sales, 2024\na,b,y\n1,2,3.5\n2,3,4.5\n", {},
                             "line 1: 2 names of columns, and rows of 3 cells; .*title.*delete"),
    "a total": ("c;a;y\nx;1;2,5\nz;2;3,5\nSumme;;6\n;;\n", {"categorical": "auto"},
                "line 4: the last row begins with 'Summe', a total and no sample; delete the line"),
    "a total further right": ("a,b,y\n1,p,2.5\n2,q,3.5\n\n,Grand total:,6", {},
                              "line 5: .*a total"),
    "a total in a column left out": ("c,a,y\nx,1,2.5\nz,2,3.5\nTotal (2),3,6\n", {"drop": ["c"]},
                                     "line 4: .*a total"),
    "a mean": ("c,a,y\nx,1,2.5\nz,2,3.5\naverage,1.5,3\n", {"drop": ["c"]}, "'average', a total"),
    "a note below": ("c,a,y\nx,1,2.5\nz,2,3.5\nSource: me,,\n", {"categorical": "auto"},
                     "line 4: the last row has one cell, 'Source: me', a note and no sample"),
    "a short note below": ("a,b,y\n1,2,3.5\n2,3,4.5\nSource: me\n", {},
                           "line 4: row 3 has 1 cells, expected 3; if it is a title or a note"),
    "a name too few": ("a,y\n7,1,2.5\n9,2,3.5\n", {}, "2 names of columns, and rows of 3 cells"),
    "a long row": ("a,y\n1,2.5\n2,3.5,4\n", {}, "line 3: row 2 has 3 cells, expected 2"),
    "a short row": ("a,b,y\n1,2.5,3\n2,3.5\n", {}, "line 3: row 2 has 2 cells, expected 3"),
    "an unclosed quote": ('a,y\n1,x\n2,"x\n3,z\n4,z\n', {}, "line 3: .*is a quote not closed"),
    "two unclosed quotes": ('a,b,y\n1,2,"x\n3,4,z\n5,6,z"\n7,8,z\n', {}, "line 2: .*not closed"),
    "a stray quote": ('a,b,y\n1,2,x\n3,4,x"\n5,6,z\n', {}, "line 3: a quote within the cell 'x\"'"),
    "missing cells": ("a,b,y\n1,#N/A,2.5\n,3,3.5\n,-,4.5\n", {},
                      "column 'b', row 1: missing value '#N/A'; 3 of 3 rows have missing cells: "
                      r"'a' \(2\), 'b' \(2\).*--missing impute"),
    "a missing target": ("a,y\n1,2.5\n2,-\n3,4.5\n", {}, r"row 2: missing value '-'.*'y' \(1\)"),
    "dates": ("d,y\n02.01.2024,2.5\n03.01.2024,3.5\n", {"categorical": "auto"},
              r"column 'd', row 1: '02.01.2024' is a date.*--drop d\)"),
    "a date as the target": (lines(AB, ["2024-01-02", "2024-01-03"] * 2), {},
                             "column 'y', row 1: '2024-01-02' is a date or time, expected numbers "
                             "or names of classes; .*--target.*--task classification"),
    "times as the target": (lines(AB, ["12:30", "", "12:31", "12:30"]), {"missing": "impute"},
                            "row 1: '12:30' is a date"),
    "months as the target": (lines(AB, ["Jan 2024", "Feb 2024"] * 2), {}, "'Jan 2024' is a date"),
    "quarters as the target": (lines(AB, ["2024Q1", "2024Q2"] * 2), {}, "'2024Q1' is a date"),
    "days as the target": (lines(AB, ['"Mon, 5 Jan 2024"', "6-Jan-24"] * 2), {}, "5 Jan 2024' is"),
    "dates for a regression": (lines(AB, ["2.1.2024", "3.1.2024"] * 2), {"task": "regression"},
                               "'2.1.2024' is a date or time, expected a number"),
    "dates in words": ("d,y\nMarch 3,2.5\n4 Mar 2024,3.5\n", {"categorical": "auto"},
                       r"column 'd', row 1: 'March 3' is a date.*--drop d\)"),
    "times": ("d,y\n12:30,2.5\n12:45,3.5\n", {}, "'12:30' is a date or time"),
    "leading zeros in a feature": (lines(("a,c,y", "{i},{},{i}.5"), ["7", "8", "07", "8"] * 2), {},
                                   "column 'c', row 3: '07' has a leading zero.*without the zeros"
                                   ".*--categorical auto"),
    "leading zeros in an id": (lines(("a,c,y", "{i},{},{i}.5"), ["71", "81", "07", "8"]),
                               {"categorical": "auto"}, "row 3: '07' has a leading zero.*--drop c"),
    "text": (lines(("id,c,y", "k{i},{},{i}.5"), "xzxz"), {},
             r"column 'id', row 1: 'k0' is not a finite number \(nor are the cells of 'c'\); "
             r"one-hot encode 'c'.*--categorical auto.*--drop id\)"),
    "text of many words": (lines(("id,c,y", "k{i},{},{i}.5"), "xzxz"), {"categorical": "auto"},
                           r"'id' \(4 words\).*--drop id\)"),
    "an odd cell": (lines(("a,y", "{},{i}.5"), ["1", "2", "n.d.", "4"]), {"categorical": "auto"},
                    "column 'a', row 3: 'n.d.' is not a finite number.*correct the cell"),
    "an odd target": (lines(AB, ["0.5", "1.5", "x", "2.5", "0.5", "1.5"]), {},
                      "column 'y', row 3: 'x' among numbers"),
    "a number among words": (lines(AB, ["x", "z", "7.5", "x", "z"]), {}, "row 3: '7.5' among text"),
    "infinity": ("a,y\n1,2.5\ninf,3.5\n", {}, "column 'a', row 2: 'inf' is not a finite number"),
    "beyond float64": ("a,y\n1,2.5\n1e999,3.5\n", {}, "row 2: '1e999' is not a finite number"),
    "Arabic digits": ("a,y\n1,2.5\n\u0661\u0662,3.5\n", {}, "column 'a', row 2: '\u0661\u0662'"),
    "underscores": ("a,y\n1,2.5\n1_000,3.5\n", {}, "row 2: '1_000' .*without underscores, 1000"),
    "a point among decimal commas": (lines(("a;y", "{};{i},5"), ["0,5"] * 60 + ["0.5"]), {},
                                     "row 61: '0.5' among numbers such as '0,5'"),
    "a comma among decimal points": (lines(("a;b;y", "{};0,5;{i},5"), ["0.5"] * 60 + ["0,5"]), {},
                                     "row 61: '0,5' among numbers such as '0.5'"),
    "two commas among decimal commas": (lines(("a;y", "{};{i},5"), ["0,5"] * 60 + ["0,5,1"]), {},
                                        "row 61: '0,5,1' is not a finite number"),
    "a cell too many among decimal commas": (lines(("a;y", "{};{i},5"), ["0,5"] * 60 + ["0,5;1."]),
                                             {}, "line 62: row 61 has 3 cells"),
    "a comment among the rows": ("a,b,y\n1,2,3.5\n# by me\n2,3,4.5\n", {},
                                 "line 3: .*a note, delete the line$"),
    "a word for a gap": (lines(("a,y", "{},{i}.5"), ["1", "2", "not known", "4"]), {},
                         "row 3.*--na-values 'not known'. if it means a missing cell"),
    "names that a shell would part": ("admission date,-b,y\n2024-01-02,2024-01-02,2.5\n", {},
                                      "--drop 'admission date,-b'"),
    "a name that begins as an option": ("-b,a,y\n2024-01-02,1,2.5\n2024-01-03,2,3.5\n", {},
                                        r"\(--drop=-b\)"),
    "two decimal signs": ('a,y\n0.5,1.5\n"0,5",2.5\n0.7,3\n', {}, "row 2: '0,5' among numbers"),
    "percent and none": ("a,y\n5%,2.5\n6%,3.5\n7,4.5\n", {}, "row 3: '7' among numbers .* '5%'"),
    "two units": ("a,y\n5 kg,2.5\n6 kg,1.5\n700 g,3.5\n", {}, "row 3: '700 g' among .* '5 kg'"),
    "a unit and none": (lines(AB, ["5 kg", "6 kg", "7"]), {}, "row 3: '7' among numbers such as"),
    "thousands by a letter": (lines(("a,y", "{},{i}.5"), ["10k", "1.2M"] * 4),
                              {"categorical": "auto"}, "row 1: '10k' has a letter.*digits out"),
    "thousands as the target": (lines(AB, ["10k", "12k"] * 4), {}, "row 1: '10k' has a letter"),
    "ranges as the target": (lines(AB, [f"{i}-{i + 5}" for i in range(9)]), {}, "'0-5' is one of"),
    "a class for each row": (lines(AB, [f"{i}h {i}m" for i in range(40)]), {},
                             "row 1: '0h 0m' is one of 40 different words in 40 rows.*--task"),
    "two currencies": (f"a,y\n$5,2.5\n$6,1.5\n{EURO}7,3.5\n", {}, f"row 3: '{EURO}7' among"),
    "German thousands, or not": ("a;y\n1.205;7\n2.300;8\n", {},
                                 r"column 'a', row 1: '1.205' is 1.205 or 1205; pass decimal="),
    "thousands, or not": ('a,y\n"1,205",7\n"2,300",8\n', {}, "row 1: '1,205' is 1205 or 1.205"),
    "another decimal sign": ("a;y\n1.5;7\n2.3;8\n", {"decimal": ","}, "'1.5' is not a finite"),
    "one class": (lines(AB, "xxx"), {}, "column 'y' has the one class x, expected two"),
    "not UTF-8": ("größe,y\n1,2\n".encode("latin-1"), {},
                  r"t.csv: line 1: 'gr\\xf6\\xdfe' is not UTF-8 text;.*--encoding.*latin-1"),
    "not UTF-8, later": (b"a,c,y\n" + b"1,x,2\n" * 70_000 + b'2,"k\xf6ln",7\n', {},
                         r"line 70002: 'k\\xf6ln' is not UTF-8 text"),
    "not UTF-8 between lone CRs": (b"a,y\r1,2\r2,\xe9\r", {}, r"line 3: '\\xe9' is not UTF-8"),
    "not the encoding told": ("größe,y\n1,2\n".encode(), {"encoding": "ascii"}, "not ASCII"),
    "UTF-16 cut short": ("a,y\n1,2\n2,x".encode("utf-16")[:-1], {}, "line 3: .* is not UTF-16"),
    "UTF-16 told, without a mark": ("a,y\n1,2\n".encode("utf-16-le"), {"encoding": "utf-16"},
                                    "t.csv: not UTF-16 text, there is no .*--encoding utf-16-le"),
    "UTF-16 without a mark": ("a,y\n1,2.5\n2,3.5\n".encode("utf-16-le"), {}, "encoding utf-16-le"),
    "a cell of a megabyte": (f"a,y\n1,{'x' * 2**20}\n2,z\n", {}, "line 2: .*more than 131072 char"),
    "a number of a megabyte": (f"a,y\n{'1' * 2**20},1\n2,3\n", {}, "line 2: .*more than 131072 c"),
    "a quoted megabyte": ('a,y\n1,"' + "x\n" * 2**19, {}, "line 2: .*is a quote not closed"),
    "a damaged gz": (gzip.compress(b"a,y\n1,2.5\n" * 99)[:-9], {}, "damaged or cut short"),
    "an archive": (b"PK\x03\x04abcdefgh", {}, "zip archive or an Excel file"),
    "NULs": ("a,y\n1,2.5\n2,\0x\n", {}, r"line 3: '\\x00x' has NUL characters"),
    "NULs, later": ("a,y\n" + "1,2.5\n" * 300_000 + "1,2\0.5\n", {},
                    r"line 300002: '2\\x00.5' has NUL"),
    "an empty target": ("a,y\n1,\n2,\n", {}, "column 'y' is empty, expected a target; .*--target"),
    "empty columns alone": ("a,b,y\n,,1\nNA,,2\n", {}, "column 'a' is empty, every cell"),
    "an empty feature that was asked for": ("a,b,y\n,1,1\nNA,2,2\n", {"features": ["a", "b"]},
                                            "column 'a' is empty, every cell is missing; name oth"),
    "the target left out": ("a,y,z\n1,2,3\n2,3,4\n", {"drop": ["z"]},
                            "'drop' has 'z', the last column, which is the target where .*--targ"),
    "a target of gaps": ("a,y\n1,-\n2,-\n", {}, "column 'y' has the one class -, expected two"),
    "text for a regression": (lines(AB, "xzxz"), {"task": "regression"},
                              "column 'y', row 1: 'x' is text, expected numbers"),
    "no such column": ("size,y\n1,2.5\n2,3.5\n", {"drop": ["sise"]}, "did you mean 'size'"),
    "no such position": ("a,y\n1,2.5\n2,3.5\n", {"target": 3}, "'target' is 3, expected"),
    "no such encoding": ("a,y\n1,2\n", {"encoding": "latn"}, "'encoding' is 'latn', expected"),
    "no such option": ("a,y\n1,2\n", {"missing": "mean"}, "'missing' is 'mean', expected"),
    "a space as separator": ("a y\n1 2\n", {"sep": " "}, "one character that is not a space"),
    "no separator": ("a,y\n1,2\n", {"sep": "ab"}, "'sep' is 'ab', expected one character"),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_a_table_is_read_as_what_it_says(case):
    contents, options, x, y, classes = READ[case]
    table = read_table(source(contents), **options)
    assert table.x.dtype == np.float64
    assert table.x.tolist() == x
    assert (table.y.tolist(), table.classes) == (y, classes)


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_is_refused_with_place_and_cure(case):
    contents, options, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        read_table(source(contents), **options)
    text = str(error.value)
    assert text.startswith(("t.csv", "read_table: '"))
    assert "\n" not in text
    assert len(text) < 500


@pytest.mark.parametrize("case", READ)
def test_a_long_table_says_the_same_as_its_rows_alone(case, monkeypatch):
    """Cut into parts of few characters: nothing depends on where a part ends."""
    monkeypatch.setattr("onepass.data._text.CHUNK", 5)
    monkeypatch.setattr("onepass.data._text.HEAD", 1 << 16)
    test_a_table_is_read_as_what_it_says(case)


@pytest.mark.parametrize("case", READ)
def test_numpy_and_csv_read_the_same(case, monkeypatch):
    """Where every part goes through csv, and where none must."""
    monkeypatch.setattr("onepass.data._text._Reading._quick", lambda self, chunk: False)
    test_a_table_is_read_as_what_it_says(case)
