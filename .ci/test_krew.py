"""Does the manifest list what was packed, and is an archive the same whoever packs it?"""

import io
import tarfile
import unittest

import krew

TEMPLATE = "# A comment.\nspec:\n  version: v$version\n  platforms:\n$platforms\n"
SUMS = {krew.archive_name("0.2.0", "linux", "amd64"): "ab" * 32,
        krew.archive_name("0.2.0", "linux", "arm64"): "cd" * 32,
        krew.archive_name("0.1.0", "linux", "amd64"): "ef" * 32,
        "fleetprof-0.2.0.tgz": "01" * 32}


class Manifest(unittest.TestCase):
    def test_it_lists_the_archives_of_its_version_and_no_others(self):
        text = krew.manifest(TEMPLATE, "0.2.0", SUMS, "https://example.com/releases/")
        self.assertEqual(text.count("- selector:"), 2)
        self.assertIn("version: v0.2.0\n", text)
        self.assertIn("          arch: amd64\n      uri: https://example.com/releases/v0.2.0/"
                      "kubectl-fleetprof_v0.2.0_linux_amd64.tar.gz\n      sha256: " + "ab" * 32, text)
        self.assertIn("sha256: " + "cd" * 32, text)
        self.assertNotIn("ef" * 32, text)
        self.assertNotIn("#", text)

    def test_a_longer_version_is_another(self):
        names = [krew.archive_name(version, "linux", "amd64") for version in ("0.2.0", "0.2.0-rc.1", "10.2.0")]
        self.assertEqual(krew.platforms(names, "0.2.0"), {("linux", "amd64"): names[0]})
        self.assertEqual(krew.platforms(names, "0.2.0-rc.1"), {("linux", "amd64"): names[1]})

    def test_a_manifest_of_nothing_is_refused(self):
        with self.assertRaises(ValueError):
            krew.manifest(TEMPLATE, "0.3.0", SUMS)

    def test_the_template_has_no_other_variables(self):
        text = krew.manifest(krew.TEMPLATE.read_text(), "0.2.0", SUMS)
        self.assertNotIn("$", text)
        self.assertIn(f"uri: {krew.RELEASES}/v0.2.0/", text)


class Archive(unittest.TestCase):
    def test_the_same_content_gives_the_same_bytes(self):
        files = [("b", 0o755, b"program"), ("a/c", 0o644, b"page")]
        packed = krew.pack(files)
        self.assertEqual(packed, krew.pack(list(reversed(files))))
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            self.assertEqual([(one.name, one.mode, one.mtime, one.uid) for one in tar],
                             [("a/c", 0o644, 0, 0), ("b", 0o755, 0, 0)])
            self.assertEqual(tar.extractfile("b").read(), b"program")


if __name__ == "__main__":
    unittest.main()
