//! Random kinds of windows, in zones whose clocks do awkward things.

use budget_core::Tracked;
use usage_types::{
    Anchor, Bounds, Dimension, DimensionSet, Every, Ppm, Predict, Pressure, PressureStep, Priority, Rate, Span, TimeUs,
    WindowSpec,
};

use crate::reference::Random;

const ZONES: [chrono_tz::Tz; 5] = [
    chrono_tz::UTC,
    chrono_tz::Africa::Cairo,
    chrono_tz::Australia::Lord_Howe,
    chrono_tz::America::St_Johns,
    chrono_tz::Asia::Beirut,
];

/// Of rolling windows and idle times, in minutes.
const SPANS: [u32; 5] = [1, 10, 90, 1_440, 4_320];

/// Half of them with an anchor.
fn calendar(random: &mut Random) -> WindowSpec {
    let (every, zone) = (random.pick(&Every::ALL), random.pick(&ZONES));
    let mut anchor = Anchor::default();
    if random.one_in(2) {
        anchor = match every {
            Every::Minute | Every::Hour => Anchor::default(),
            Every::Day => Anchor { minute: 1 + random.below(1439) as u16, ..Anchor::default() },
            Every::Week => Anchor { day: 1 + random.below(7) as u8, minute: random.pick(&[0, 150]), month: 0 },
            Every::Month => Anchor { day: random.pick(&[1, 4, 29, 30, 31]), minute: random.pick(&[0, 120]), month: 0 },
            Every::Quarter | Every::Year => Anchor { month: random.below(3) as u8, day: 31, minute: 0 },
        };
    }
    WindowSpec::anchored(every, anchor, zone)
}

/// One of the calendar, or one that moves.
pub fn window(random: &mut Random, matches: &[(Dimension, &str)], per: &[Dimension]) -> WindowSpec {
    let span = Span::minutes(random.pick(&SPANS));
    let zone = random.pick(&ZONES);
    let has_session = matches.iter().map(|(dim, _)| dim).chain(per).any(|dim| *dim == Dimension::Session);
    match random.below(3) {
        0 if has_session => WindowSpec { bounds: Bounds::Lifetime { of: Dimension::Session, idle: span }, zone },
        0 | 1 => WindowSpec::rolling(span, zone),
        _ => calendar(random),
    }
}

/// Whom a budget slows, and who it is to budgets above. Who is slowed when is not of this model: what is said of it must not change what blocks.
pub fn slowing(random: &mut Random, window: WindowSpec) -> (Option<Predict>, Priority, Option<Pressure>) {
    let rate = |random: &mut Random| Rate { requests: 1 + random.below(20), per_s: random.pick(&[1, 60, 3_600]) };
    let priority = random.pick(&[Priority::Normal, Priority::Low, Priority::High]);
    if window.is_moving() {
        return (None, priority, None);
    }
    let minutes = |random: &mut Random| Some(TimeUs::MINUTE * (1 + random.below(600)) as i64);
    let predict = Predict {
        over: Span::minutes(random.pick(&[1, 5, 60])),
        warn_us: minutes(random).filter(|_| random.one_in(2)),
        slow_us: minutes(random),
        floor: rate(random),
    };
    let step = |random: &mut Random| {
        Some(PressureStep { at: Ppm(100_000 * (1 + random.below(10) as u32)), rate: rate(random) })
    };
    let pressure = Pressure { low: step(random), normal: step(random).filter(|_| random.one_in(2)) };
    (Some(predict).filter(|_| random.one_in(3)), priority, Some(pressure).filter(|_| random.one_in(3)))
}

pub fn tracked(random: &mut Random) -> Vec<Tracked> {
    let first = calendar(random);
    let mut second = calendar(random);
    while second == first {
        second = calendar(random);
    }
    if random.one_in(4) {
        second = WindowSpec::rolling(Span::minutes(random.pick(&SPANS)), random.pick(&ZONES));
    }
    [DimensionSet::of(&[Dimension::Namespace]), DimensionSet::of(&[Dimension::Namespace, Dimension::Team])]
        .map(|dimensions| Tracked { dimensions, windows: vec![first, second] })
        .into()
}
