"""Does a release change the version everywhere and nowhere else, and reject an invalid version?"""

import unittest
from pathlib import Path

import release

CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Wall clock profiles.

## [0.1.0] - 2026-12-01

- The first one.
"""


def read(file):
    """The present text of a file of the checkout."""
    return (release.ROOT / file).read_text()


class Versions(unittest.TestCase):
    def test_order_is_that_of_semver(self):
        order = ["0.1.0-alpha", "0.1.0-alpha.1", "0.1.0-alpha.beta", "0.1.0-rc.2", "0.1.0-rc.11", "0.1.0",
                 "0.1.1", "0.10.0", "1.0.0"]
        self.assertEqual(sorted(reversed(order), key=release.parsed), order)

    def test_what_is_no_version_is_refused(self):
        for text in ("", "1", "1.0", "v1.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+build", "1.0.0 ",
                     "1.0.0\n"):
            with self.subTest(text), self.assertRaises(release.Refused):
                release.parsed(text)

    def test_a_version_must_be_greater_than_the_last(self):
        for version in ("0.0.9", "0.1.0", "0.1.0-rc.1"):
            with self.subTest(version), self.assertRaises(release.Refused):
                release.check(version, "0.1.0", CHANGELOG)
        release.check("0.1.1", "0.1.0", CHANGELOG)
        # The first release may be the version that the workspace has had all along.
        release.check("0.1.0", "0.1.0", "# Changelog\n\n## [Unreleased]\n")


class Beside(unittest.TestCase):
    def test_rbspy_is_of_one_version_and_its_licences_are_listed(self):
        version = release.rbspy_version(read("tests/rbspy.sh"))
        self.assertIn(f"rbspy@{version} ", read("operator/agent/Dockerfile"))
        self.assertEqual([(one["name"], one["licenses"][0]["expression"]) for one in release.beside(version)],
                         [("rbspy", "MIT"), ("inferno", "CDDL-1.0")])


class Rewriting(unittest.TestCase):
    def test_every_place_of_the_checkout_is_found_and_leaves_none(self):
        present = release.current(read("Cargo.toml"))
        changed = release.plan(read, "98.76.54", "2026-12-24")
        self.assertEqual(set(changed), {*release.PLACES, "CHANGELOG.md"})
        for file, text in changed.items():
            self.assertIn("98.76.54", text, file)
        self.assertNotIn(f"fleetprof-agent:{present}", changed["README.md"] + changed["docs/reference.md"])
        self.assertEqual(changed["charts/fleetprof/Chart.yaml"].count("98.76.54"), 2)
        crates = read("Cargo.lock").count('name = "fleetprof-')
        self.assertEqual(changed["Cargo.lock"].count("98.76.54"), crates)

    def test_no_image_in_the_guides_has_another_version(self):
        guides = [*Path(release.ROOT / "docs").rglob("*.md"), release.ROOT / "charts/fleetprof/README.md"]
        for guide in guides:
            name = str(guide.relative_to(release.ROOT))
            if name not in release.PLACES:
                self.assertNotRegex(guide.read_text(), r"fleetprof-(operator|agent):\d", name)

    def test_other_packages_of_the_same_version_stay(self):
        lock = 'name = "log"\nversion = "0.1.0"\n\nname = "fleetprof-core"\nversion = "0.1.0"\n'
        self.assertEqual(release.rewritten(lock, [release.LOCKED], "0.1.0", "0.2.0"),
                         'name = "log"\nversion = "0.1.0"\n\nname = "fleetprof-core"\nversion = "0.2.0"\n')

    def test_a_longer_version_is_another(self):
        with self.assertRaises(release.Refused):
            release.rewritten("fleetprof-agent:0.1.0-rc.1", [release.IMAGE], "0.1.0", "0.2.0")
        self.assertEqual(release.rewritten("fleetprof-agent:0.1.0.", [release.IMAGE], "0.1.0", "0.2.0"),
                         "fleetprof-agent:0.2.0.")


class Changelog(unittest.TestCase):
    def test_what_was_unreleased_gets_the_version_and_its_day(self):
        text = release.with_section(CHANGELOG, "0.2.0", "2026-12-24")
        self.assertIn("## [Unreleased]\n\n## [0.2.0] - 2026-12-24\n\n### Added\n\n- Wall clock", text)
        self.assertEqual(release.released(text), ["0.2.0", "0.1.0"])

    def test_a_release_of_nothing_is_refused(self):
        for text in ("# Changelog\n", "## [Unreleased]\n\n## [0.1.0] - 2026-12-01\n\n- The first one.\n"):
            with self.subTest(text), self.assertRaises(release.Refused):
                release.with_section(text, "0.2.0", "2026-12-24")


class Bill(unittest.TestCase):
    METADATA = {
        "packages": [{"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"}
                     for name in ("app", "used", "deep", "builds", "tests", "other", "unbuilt")],
        "resolve": {"nodes": [
            {"id": "app", "deps": [{"pkg": "used", "dep_kinds": [{"kind": None}]},
                                   {"pkg": "builds", "dep_kinds": [{"kind": "build"}]},
                                   {"pkg": "tests", "dep_kinds": [{"kind": "dev"}]}]},
            {"id": "used", "deps": [{"pkg": "deep", "dep_kinds": [{"kind": "dev"}, {"kind": None}]},
                                    {"pkg": "unbuilt", "dep_kinds": [{"kind": None}]}]},
            *({"id": name, "deps": []} for name in ("deep", "builds", "tests", "other", "unbuilt"))]},
    }
    TREE = "app v1.0.0 (/src)\nused v1.0.0\ndeep v1.0.0\nbuilds v1.0.0 (*)\n\n"

    def test_it_lists_what_is_linked_with_licence_and_checksum(self):
        bill = release.bill(self.METADATA, "app", release.tree(self.TREE), {("deep", "1.0.0"): "ab" * 32})
        self.assertEqual([one["name"] for one in bill["components"]], ["deep", "used"])
        deep = bill["components"][0]
        self.assertEqual(deep["purl"], "pkg:cargo/deep@1.0.0")
        self.assertEqual(deep["hashes"], [{"alg": "SHA-256", "content": "ab" * 32}])
        self.assertEqual(deep["licenses"], [{"expression": "MIT OR Apache-2.0"}])
        self.assertEqual(bill["metadata"]["component"]["name"], "app")
        edge = {"ref": "pkg:cargo/app@1.0.0", "dependsOn": ["pkg:cargo/used@1.0.0"]}
        self.assertIn(edge, bill["dependencies"])

    def test_checksums_are_read_from_the_lock(self):
        known = release.checksums(read("Cargo.lock"))
        self.assertGreater(len(known), 100)
        self.assertTrue(all(len(one) == 64 for one in known.values()))


if __name__ == "__main__":
    unittest.main()
