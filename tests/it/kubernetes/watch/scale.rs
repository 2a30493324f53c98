//! How much it costs to watch many: asked for by `CANARY_TEST_SCALE`, for it takes minutes.
