"""Units after a number in a cell: 5 kg, 12px, 3h."""

from __future__ import annotations

import re

_SIMPLE = """
    m mm cm km mi mile yd ft feet foot in inch px pt dpi ppi MP
    g kg mg ug µg μg t ton tonne lb oz
    s ns us µs μs ms sec second min minute h hr hour day week month year yr
    l L ml mL cl dl dL liter litre gal gallon cc CC
    m2 m² m^2 cm2 cm² mm2 mm² km2 km² ft2 ft² sqft sqm ha acre m3 m³ m^3 cm3 cm³
    kmh kph mph rpm kmpl mpg W kW MW GW Wh kWh MWh hp bhp PS V mV kV mA Ah mAh J kJ MJ cal kcal
    °C °F ℃ ° Hz kHz MHz GHz kB KB MB GB TB kbps Mbps Gbps Mbit Gbit dB ppm mol mmol IU
    Pa hPa kPa MPa bar mbar psi mmHg
"""
_COUNTED = (
    "mile lb sec second min minute hr hour day week month year yr ton tonne liter litre gallon acre"
)
_PLURAL = {f"{name}s": name for name in _COUNTED.split()}
_PLURAL |= {"inches": "inch", "sq ft": "sqft", "sq. ft": "sqft", "sq. ft.": "sqft", "sq m": "sqm"}
_PLURAL |= {
    written: _PLURAL.get(name, name)
    for name in (*_SIMPLE.split(), *_PLURAL)
    for written in (name.upper(), name.capitalize())
    if len(name) > 1 and name.isascii() and name.islower() and written not in _SIMPLE.split()
}
_ANY = "|".join(map(re.escape, sorted([*_SIMPLE.split(), *_PLURAL], key=len, reverse=True)))
UNIT = rf"(?:{_ANY})(?:/(?:100 ?)?(?:{_ANY}))?"
_SCALED = re.compile(r"[+-]?\d+([.,]\d+)? ?(k|K|M|Mio\.?|Mrd\.?|bn|million|billion)", re.ASCII)


def name_of(unit: str) -> str:
    """The unit in the singular."""
    return _PLURAL.get(unit, unit)


def is_unit(unit: str) -> bool:
    """Whether it is a unit, and no sign such as %."""
    return re.fullmatch(UNIT, unit) is not None


def is_scaled(cell: str) -> bool:
    """Whether it is a number with thousands or millions behind it: 10k, 1.2M."""
    return _SCALED.fullmatch(cell) is not None
