//! How long ago was that? In the words of kubectl: `45s`, `5m3s`, `90m`, `3h5m`, `20h`, `3d`.

use jiff::Timestamp;

/// The time since `then`.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    span(now.as_second().saturating_sub(then.as_second()))
}

/// A length of time in seconds; the larger, the rougher.
pub(crate) fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, below: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{below}"),
    };
    match seconds {
        ..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_kubectl_says_them() {
        let cases = [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (303, "5m3s"),
            (5_400, "90m"),
            (11_100, "3h5m"),
            (72_000, "20h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ];
        for (seconds, said) in cases {
            assert_eq!(span(seconds), said, "{seconds}");
        }
    }
}
