//! Presets and margins against STATISTICS 2.3, 7 and 10.
