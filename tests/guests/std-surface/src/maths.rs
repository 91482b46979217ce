//! Floating-point functions, against values that are exact or known to many digits.
use crate::Check;
use std::f32::consts as f32s;
use std::f64::consts::{E, FRAC_PI_2, FRAC_PI_3, FRAC_PI_4, FRAC_PI_6, LN_2, PI};
use std::hint::black_box;

pub(crate) const CHECKS: &[Check] =
    &[("f64 functions", double), ("f32 functions", single), ("floats of the edge", edges)];

fn double() {
    let check = |name: &str, found: f64, expect: f64| {
        assert!(
            (found - expect).abs() <= 4.0 * f64::EPSILON * expect.abs().max(1.0),
            "{name}: {found}"
        );
    };
    let x = black_box(0.5_f64);
    check("sin", (black_box(PI) / 6.0).sin(), 0.5);
    check("cos", (black_box(PI) / 3.0).cos(), 0.5);
    check("tan", black_box(FRAC_PI_4).tan(), 1.0);
    check("asin", x.asin(), FRAC_PI_6);
    check("acos", x.acos(), FRAC_PI_3);
    check("atan", black_box(1.0_f64).atan(), FRAC_PI_4);
    check("atan2", black_box(1.0_f64).atan2(0.0), FRAC_PI_2);
    check("sinh", black_box(LN_2).sinh(), 0.75);
    check("cosh", black_box(LN_2).cosh(), 1.25);
    check("tanh", black_box(LN_2).tanh(), 0.6);
    check("exp", black_box(1.0_f64).exp(), E);
    check("exp2", black_box(0.5_f64).exp2(), std::f64::consts::SQRT_2);
    check("exp_m1", black_box(1.0_f64).exp_m1(), E - 1.0);
    check("ln", black_box(E).ln(), 1.0);
    check("ln_1p", black_box(1.0_f64).ln_1p(), LN_2);
    check("log2", black_box(8.0_f64).log2(), 3.0);
    check("log10", black_box(1000.0_f64).log10(), 3.0);
    check("powf", black_box(2.0_f64).powf(10.5), 1024.0 * std::f64::consts::SQRT_2);
    check("cbrt", black_box(27.0_f64).cbrt(), 3.0);
    check("hypot", black_box(3.0_f64).hypot(4.0), 5.0);
}

fn single() {
    let check = |name: &str, found: f32, expect: f32| {
        assert!(
            (found - expect).abs() <= 4.0 * f32::EPSILON * expect.abs().max(1.0),
            "{name}: {found}"
        );
    };
    let x = black_box(0.5_f32);
    check("sin", (black_box(f32s::PI) / 6.0).sin(), 0.5);
    check("cos", (black_box(f32s::PI) / 3.0).cos(), 0.5);
    check("tan", black_box(f32s::FRAC_PI_4).tan(), 1.0);
    check("asin", x.asin(), f32s::FRAC_PI_6);
    check("acos", x.acos(), f32s::FRAC_PI_3);
    check("atan", black_box(1.0_f32).atan(), f32s::FRAC_PI_4);
    check("atan2", black_box(1.0_f32).atan2(0.0), f32s::FRAC_PI_2);
    check("sinh", black_box(f32s::LN_2).sinh(), 0.75);
    check("cosh", black_box(f32s::LN_2).cosh(), 1.25);
    check("tanh", black_box(f32s::LN_2).tanh(), 0.6);
    check("exp", black_box(1.0_f32).exp(), f32s::E);
    check("exp2", black_box(0.5_f32).exp2(), f32s::SQRT_2);
    check("exp_m1", black_box(1.0_f32).exp_m1(), f32s::E - 1.0);
    check("ln", black_box(f32s::E).ln(), 1.0);
    check("ln_1p", black_box(1.0_f32).ln_1p(), f32s::LN_2);
    check("log2", black_box(8.0_f32).log2(), 3.0);
    check("log10", black_box(1000.0_f32).log10(), 3.0);
    check("powf", black_box(2.0_f32).powf(10.5), 1024.0 * f32s::SQRT_2);
    check("cbrt", black_box(27.0_f32).cbrt(), 3.0);
    check("hypot", black_box(3.0_f32).hypot(4.0), 5.0);
}

fn edges() {
    assert!(black_box(-1.0_f64).ln().is_nan());
    assert_eq!(black_box(0.0_f64).ln(), f64::NEG_INFINITY);
    assert_eq!(black_box(1000.0_f64).exp(), f64::INFINITY);
    assert_eq!(black_box(7.5_f64) % 2.0, 1.5);
    assert_eq!(black_box(2.5_f64).round_ties_even(), 2.0);
    assert_eq!(black_box(-2.5_f64).floor(), -3.0);
    assert_eq!(black_box(2.0_f64).mul_add(3.0, 4.0), 10.0);
    assert_eq!(black_box(2.0_f64).sqrt(), std::f64::consts::SQRT_2);
}
