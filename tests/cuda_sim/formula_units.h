// What CMake makes for the library: a unit for each formula. The simulator has one for each family
// (activations.cu, updates.cu), because g++ reads the headers of each unit again.
#define ONEPASS_FORMULA_UNITS(unit, level) unit(every_activation, level) unit(every_update, level)
