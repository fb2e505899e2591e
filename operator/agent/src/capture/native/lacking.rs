//! What do frames of machine code not show of a program, and what helps? A table by runtime.

use crate::capture::runtime::Runtime;

/// Samples in code without names are worth a sentence from one in so many on.
const MANY: u64 = 5;

/// What is lacking in a profile of `taken` samples, of which `unnamed` are in code that the runtime made while it
/// ran and does not name. `advice` is what helps, if more than the runtime is known.
pub fn lacking(runtime: &Runtime, unnamed: u64, taken: u64, advice: Option<&str>) -> Option<String> {
    if let Some(what) = interpreted(runtime) {
        return Some(format!(
            "The functions in the profile are those of the {what} interpreter, not of the program."
        ));
    }
    let is_much = unnamed > 0 && unnamed.saturating_mul(MANY) > taken;
    is_much.then(|| {
        let advice = advice.unwrap_or_else(|| naming(runtime));
        format!("{unnamed} samples are in JIT-compiled code without names, shown as [anon]; {advice}.")
    })
}

/// The language of an interpreter, whose machine code shows nothing of the program.
const fn interpreted(runtime: &Runtime) -> Option<&'static str> {
    match runtime {
        Runtime::Python(_) => Some("Python"),
        Runtime::Ruby => Some("Ruby"),
        Runtime::Php(_) => Some("PHP"),
        _ => None,
    }
}

/// How a runtime is made to name the code that it makes.
const fn naming(runtime: &Runtime) -> &'static str {
    match runtime {
        Runtime::Beam => "to get names, set ERL_FLAGS=\"+JPperf true\" (Erlang/OTP 25 or newer)",
        Runtime::Node => "to get names, start Node.js with --perf-basic-prof",
        Runtime::DotNet => "to get names, set DOTNET_PerfMapEnabled=1",
        _ => "to get names, have the runtime write /tmp/perf-PID.map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_follows_from_the_runtime_and_what_was_sampled() {
        use Runtime::{Beam, DotNet, Jvm, Native, Node, Php, Python, Ruby};
        let cases = [
            (Native, 0, 100, None),
            (Native, 20, 100, None),
            (Native, 21, 100, Some("21 samples are in")),
            (Ruby, 0, 100, Some("the Ruby interpreter")),
            (Php(Some((8, 2))), 0, 100, Some("the PHP interpreter")),
            (Python(None), 0, 0, Some("the Python interpreter")),
            (Beam, 0, 100, None),
            (Beam, 90, 100, Some("+JPperf true")),
            (Node, 90, 100, Some("--perf-basic-prof")),
            (DotNet, 90, 100, Some("DOTNET_PerfMapEnabled=1")),
            (Jvm, 90, 100, Some("perf-PID.map")),
            (Beam, 0, 0, None),
        ];
        for (runtime, unnamed, taken, wanted) in cases {
            let said = lacking(&runtime, unnamed, taken, None);
            let is_so = match (&said, wanted) {
                (Some(said), Some(wanted)) => said.contains(wanted) && said.ends_with('.'),
                (None, None) => true,
                _ => false,
            };
            assert!(is_so, "{runtime} {unnamed}/{taken}: {said:?}");
        }
        let said = lacking(&DotNet, 90, 100, Some("mount an emptyDir at /tmp"));
        assert!(said.is_some_and(|said| said.ends_with("shown as [anon]; mount an emptyDir at /tmp.")));
    }
}
