"""What `ninja install` leaves: a program that starts where it lies, and a library that others link, shared and static."""
from common import *

import shlex

BUILD = os.environ["RECO_TEST_BUILD"]
CC = os.environ["RECO_TEST_CC"]


class Install(Case):
    def setUp(self):
        super().setUp()
        self.root = self.dir / "a folder"  # a blank in the path must not matter
        self.call(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", self.root])
        self.program = next(self.root.rglob("bin/reco"))
        self.library = next(self.root.rglob("libreco.so.0")).parent
        self.clean = {k: v for k, v in os.environ.items() if k not in ("LD_LIBRARY_PATH", "LD_PRELOAD")}

    def call(self, command, **more):
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def flags(self, *options):
        given = {**self.clean, "PKG_CONFIG_PATH": str(self.library / "pkgconfig")}
        prefix = str(self.program.parent.parent).replace(" ", r"\ ")
        return shlex.split(self.call(["pkg-config", f"--define-variable=prefix={prefix}", "--cflags", "--libs", *options, "reco"], env=given))

    def test_program_starts(self):
        self.assertRegex(self.call([self.program, "--version"], env=self.clean), r"^reco \d")
        self.program.parent.parent.rename(self.dir / "moved")  # and goes on to, with its library
        self.assertRegex(self.call([self.dir / "moved/bin/reco", "--version"], env=self.clean), r"^reco \d")

    def example(self, flags, env):
        example = self.dir / "refine_one"
        self.call([*shlex.split(CC), SOURCE / "examples/refine_one.c", "-o", example, *flags], env=self.clean)
        out = self.call([example, MODEL, self.dir / "b", "vote", self.dir / "pictures/0001.png"], env={**self.clean, **env})
        self.assertIn("refined, cosine to the original", out)
        return self.call(["readelf", "-d", example])

    def test_example_links(self):
        self.reco("bank", "build", "--model", MODEL, "--pairs", self.pairs(4), "--out", "b")
        self.assertIn("libreco.so", self.example(self.flags(), {"LD_LIBRARY_PATH": str(self.library)}))
        for shared in self.library.glob("libreco.so*"):
            shared.unlink()
        self.assertNotIn("libreco", self.example(self.flags("--static"), {}))


unittest.main()
