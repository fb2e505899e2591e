//! How much may be captured at the same time?

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be captured at the same time. A target that gets no place by its start deadline is `Skipped`,
/// with the reason `NodeBusy` or `BudgetExhausted`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Most targets of this policy that are captured at the same time.
    #[serde(default = "default_max_concurrent")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_concurrent: i32,
    /// A target of this policy waits while this many captures run on its node, whoever ordered them.
    #[serde(default = "default_per_node")]
    #[schemars(range(min = 1, max = 100))]
    pub max_concurrent_per_node: i32,
    /// Containers with a lower CPU limit are left alone, since an agent would weigh too much beside them,
    /// such as `100m`.
    #[serde(default, rename = "minContainerCPU")]
    pub min_container_cpu: Millicores,
    /// Of targets that wait for a place, those with the higher number go first.
    #[serde(default)]
    #[schemars(range(min = -1000, max = 1000))]
    pub priority: i32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            max_concurrent: default_max_concurrent(),
            max_concurrent_per_node: default_per_node(),
            min_container_cpu: Millicores::default(),
            priority: 0,
        }
    }
}

const fn default_max_concurrent() -> i32 {
    10
}
const fn default_per_node() -> i32 {
    1
}

/// An amount of CPU as Kubernetes writes it, in thousandths of a core: `100m`, `2`, `0.5`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Millicores(
    #[schemars(length(min = 1, max = 16), regex(pattern = r"^([0-9]{1,9}m|[0-9]{1,6}([.][0-9]{1,3})?)$"))]
    pub String,
);

impl Default for Millicores {
    /// 100m: a capture of a Python process at 99 Hz was measured at 70 to 90m.
    fn default() -> Self {
        Self("100m".into())
    }
}

impl Millicores {
    /// Thousandths of a core; `None` for a text that is no amount of CPU.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        millicores(&self.0)
    }
}

/// Reads a Kubernetes quantity of CPU as thousandths of a core, rounded up.
#[must_use]
pub fn millicores(text: &str) -> Option<i64> {
    let (digits, scale) = match text.as_bytes().last()? {
        b'n' => (text.strip_suffix('n')?, 1e-6),
        b'u' => (text.strip_suffix('u')?, 1e-3),
        b'm' => (text.strip_suffix('m')?, 1.0),
        b'k' => (text.strip_suffix('k')?, 1e6),
        _ => (text, 1e3),
    };
    let value = digits.parse::<f64>().ok().filter(|v| v.is_finite() && (0.0..=1e12).contains(v))?;
    #[allow(clippy::cast_possible_truncation)]
    Some((value * scale).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_cpu() {
        for (text, wanted) in [
            ("100m", 100),
            ("2", 2000),
            ("0.5", 500),
            ("1.5", 1500),
            ("1e1", 10_000),
            ("500u", 1),
            ("3k", 3_000_000),
        ] {
            assert_eq!(millicores(text), Some(wanted), "{text}");
        }
        for text in ["", "m", "-1", "x", "NaN", "inf", "1 0"] {
            assert_eq!(millicores(text), None, "{text}");
        }
    }
}
