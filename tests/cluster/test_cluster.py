"""Do the parts of the local cluster that need no cluster keep their word?

Run: python3 -B -m unittest discover -s tests/cluster
"""

import json
import subprocess
import tarfile
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

from lib import image, images, process
from lib.steps import ClusterError, wait_until


class Images(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.dir = Path(scratch.name)
        (self.dir / "app").write_bytes(b"program")
        (self.dir / "app").chmod(0o755)
        (self.dir / "data").mkdir()
        (self.dir / "data" / "b.txt").write_bytes(b"b")

    def write(self, name, **settings):
        image.write(self.dir / name, "shop:1", **settings)
        return self.dir / name

    def layer(self, tar, number):
        with tarfile.open(tar) as archive:
            def blob(digest):
                return archive.extractfile("blobs/sha256/" + digest.split(":")[1])
            index = json.load(archive.extractfile("index.json"))
            manifest = json.load(blob(index["manifests"][0]["digest"]))
            with tarfile.open(fileobj=blob(manifest["layers"][number]["digest"])) as layer:
                return {entry.name: (oct(entry.mode), entry.uid, entry.mtime) for entry in layer}

    def test_short_names_get_the_registry_that_a_kubelet_adds(self):
        self.assertEqual(image.full_name("shop:1"), "docker.io/library/shop:1")
        self.assertEqual(image.full_name("team/shop:1"), "docker.io/team/shop:1")
        self.assertEqual(image.full_name("localhost:5000/shop:1"), "localhost:5000/shop:1")
        with self.assertRaises(ClusterError):
            image.full_name("localhost:5000/shop")

    def test_a_base_is_kept_for_each_set_of_packages(self):
        with mock.patch.object(images, "_debian", lambda stem, *_: stem):
            one = images.debian(["ruby", "nodejs"])
            self.assertEqual(one, images.debian(["nodejs", "ruby"]))
            self.assertNotEqual(one, images.debian(["ruby"]))

    def test_equal_input_gives_equal_bytes(self):
        layers = [f"{self.dir}/app=/usr/bin/app", f"{self.dir}/data=/srv"]
        first, second = (self.write(name, layers=layers).read_bytes() for name in ("1.tar", "2.tar"))
        self.assertEqual(first, second)

    def test_sources_keep_their_execute_bit_and_get_parents_and_root_as_owner(self):
        tar = self.write("1.tar", layers=[f"{self.dir}/app=/usr/bin/app", f"{self.dir}/data=/srv",
                                          f"{self.dir}/data/b.txt=/etc/secret:0600"])
        self.assertEqual(self.layer(tar, 0), {
            "etc": ("0o755", 0, 0), "etc/secret": ("0o600", 0, 0), "srv": ("0o755", 0, 0),
            "srv/b.txt": ("0o644", 0, 0), "usr": ("0o755", 0, 0), "usr/bin": ("0o755", 0, 0),
            "usr/bin/app": ("0o755", 0, 0)})

    def test_a_directory_has_the_mode_that_is_given(self):
        (self.dir / "tmp").mkdir()
        (self.dir / "data" / "below").mkdir()
        tar = self.write("1.tar", layers=[f"{self.dir}/tmp=/tmp:1777", f"{self.dir}/data=/srv:0700"])
        modes = {name: mode for name, (mode, *_) in self.layer(tar, 0).items()}
        self.assertEqual(modes, {"tmp": "0o1777", "srv": "0o700", "srv/b.txt": "0o700", "srv/below": "0o755"})

    def test_an_image_on_a_base_has_the_layers_of_both_and_another_digest(self):
        base = self.write("base.tar", layers=[f"{self.dir}/app=/app"], env=["A=1"], user="7")
        top = self.write("top.tar", base=base, layers=[f"{self.dir}/data=/srv"])
        self.assertIn("app", self.layer(top, 0))
        self.assertIn("srv/b.txt", self.layer(top, 1))
        self.assertNotEqual(image.manifest_digest(base), image.manifest_digest(top))

    def test_the_given_environment_wins_over_the_inherited_one(self):
        merged = image.merged_env(["A=1", "B=2"], ["A=3"])
        self.assertIn("A=3", merged)
        self.assertIn("B=2", merged)
        self.assertNotIn("A=1", merged)
        with self.assertRaises(ClusterError):
            image.merged_env([], ["A"])

    def test_a_source_that_is_not_there_is_named(self):
        with self.assertRaisesRegex(ClusterError, "/nowhere"):
            self.write("1.tar", layers=["/nowhere=/app"])


class Processes(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        directory = Path(scratch.name)
        self.settings = types.SimpleNamespace(pids=directory, logs=directory)
        self.sleeper = process.Process(self.settings, "sleeper")

    def test_a_process_is_started_once_restarted_when_it_changes_and_stopped(self):
        self.addCleanup(self.sleeper.stop)
        self.assertTrue(self.sleeper.ensure(["sleep", "60"]))
        first = self.sleeper.pid()
        self.assertFalse(self.sleeper.ensure(["sleep", "60"]))
        self.assertTrue(self.sleeper.ensure(["sleep", "61"]))
        self.assertNotEqual(self.sleeper.pid(), first)
        self.assertIsNone(process.start_time(first))
        self.sleeper.stop()
        self.assertIsNone(self.sleeper.pid())

    def test_a_recycled_pid_is_not_ours_and_is_not_stopped(self):
        for change in ({"start": 1}, {"boot": "another boot"}):
            with subprocess.Popen(["sleep", "60"]) as stranger:
                record = {"pid": stranger.pid, "start": process.start_time(stranger.pid),
                          "boot": process.BOOT_ID, "argv": [], "stamp": ""}
                self.sleeper.file.write_text(json.dumps({**record, **change}))
                self.assertIsNone(self.sleeper.pid())
                self.sleeper.stop()
                self.assertIsNone(stranger.poll())
                stranger.kill()

    def test_a_process_that_ended_before_its_start_was_recorded_is_not_running(self):
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
        record = {"pid": ended.pid, "start": None, "boot": process.BOOT_ID, "argv": [], "stamp": ""}
        self.sleeper.file.write_text(json.dumps(record))
        self.assertIsNone(self.sleeper.pid())

    def test_a_process_that_ended_by_itself_is_reported_with_its_log(self):
        self.sleeper.ensure(["sh", "-c", "echo no such flag; exit 3"])
        wait_until(lambda: not self.sleeper.pid(), "the end of the program", 10, every=0.01)
        with self.assertRaisesRegex(ClusterError, "no such flag"):
            self.sleeper.require_alive()


if __name__ == "__main__":
    unittest.main()
