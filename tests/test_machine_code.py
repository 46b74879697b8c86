"""The reader of machine code, on a listing made up for it."""

from __future__ import annotations

import pytest
from machine_code import Code

LISTING = """
	.section	.text._Z6kernelv
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E.128 R4, [R2.64] ;
        /*0020*/               @P0 BRA `(.L_x_2) ;
        /*0030*/                   HADD2.F32 R8, -RZ, R4.H0_H0 ;
        /*0040*/                   HADD2.F32 R9, -RZ, R4.H1_H1 ;
        /*0050*/                   BRA `(.L_x_3) ;
.L_x_2:
        /*0060*/                   IMAD.U32 R8, R4, 0x10000, RZ ;
.L_x_3:
        /*0070*/                   DFMA R10, R8, R8, R10 ;
.L_x_4:
        /*0080*/                   IADD3 R2, R2, 0x1, RZ ;
        /*0090*/              @!P1 BRA `(.L_x_4) ;
        /*00a0*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_u64) ;
        /*00b0*/               @P2 BRA `(.L_x_1) ;
        /*00c0*/                   EXIT ;
.L_x_5:
        /*00d0*/                   BRA `(.L_x_5);
"""


@pytest.fixture
def loops():
    return Code(LISTING.splitlines()).loops()


def test_the_loops(loops):
    assert [len(loop) for loop in loops] == [2, 11]
    inner, outer = loops
    assert inner.inside(outer)
    assert not outer.inside(inner)
    assert outer.count(r"LDG.*\.128") == 1
    assert outer.count("BRA") == 4
    assert outer.calls("div_u64") == 1
    assert inner.calls("div_u64") == 0


def test_a_turn_is_the_shortest_path_that_is_wanted(loops):
    _, outer = loops
    assert outer.turn({}) == 8  # by way of the shift
    assert outer.turn({"HADD2": 2}) == 10
    assert outer.turn({"DFMA": 1}, avoided="HADD2") == 8
    assert outer.turn({"HADD2": 3}) is None
    assert outer.turn({}, avoided="CALL") is None
