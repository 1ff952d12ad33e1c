"""How long a question to many shards takes: a simulation, and the shards that it is checked against.

The simulation draws a time for each shard from what one shard was measured to take, and the question takes as long as the slowest:
asking and merging cost next to nothing. It is checked with PostgreSQL servers on this machine behind relays that hold every message back as a network
would: a delay each way, and now and then as long as TCP waits before it sends a lost packet again. (tc's netem would do
the same, where the kernel has it.) The servers are asked one at a time and all at once, in turns. Exits with 1 where the simulated p50 or p99
are more than 20 % from the measured ones.

Then the shards that are on paper: the same measured shard, 1 to 50 times."""
import argparse
import asyncio
import json
import multiprocessing
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
os.environ.setdefault("RECO_TEST_SOURCE", str(HERE.parent))
WITHIN = 0.2


# ---- the network ----

async def carry(reader, writer, delay, lost, rng):
    """Messages in order, each held back; one in 1 / lost until it is sent again."""
    queue, loop = asyncio.Queue(), asyncio.get_running_loop()

    async def send():
        while (item := await queue.get()) is not None:
            at, data = item
            await asyncio.sleep(max(0, at - loop.time()))
            writer.write(data)
            await writer.drain()
        writer.close()

    sender = loop.create_task(send())
    try:
        while data := await reader.read(1 << 16):
            queue.put_nowait((loop.time() + delay * rng.uniform(0.9, 1.3) + (0.2 if rng.random() < lost else 0), data))
    except OSError:
        pass
    queue.put_nowait(None)
    await sender


def relay(to, delay, lost, port, seed):
    rng = random.Random(seed)

    async def serve(reader, writer):
        try: there, back = await asyncio.open_connection("127.0.0.1", to)
        except OSError: return writer.close()
        await asyncio.gather(carry(reader, back, delay, lost, rng), carry(there, writer, delay, lost, rng), return_exceptions=True)

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


# ---- the simulation ----

def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(p * len(values)))]


def simulate(shards, draws, rng):
    """shards: what each was measured to take alone, in seconds, round by round. A draw is of one round: what slows all of them
    at a time, as other work on this machine, does so in the draw, too."""
    rounds = len(shards[0])
    return [max(rng.choice(s[r]) for s in shards) for r in (rng.randrange(rounds) for _ in range(draws))]


def told(times):
    return {"p50_ms": round(1e3 * percentile(times, 0.5), 2), "p99_ms": round(1e3 * percentile(times, 0.99), 2)}


# ---- the shards ----

class Client:
    """bench/search over a bank: one question after another."""

    def __init__(self, program, bank, queries, nq, k):
        self.process = subprocess.Popen([program, bank, queries, str(nq), str(k), "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about, self.nq, self.next = json.loads(self.process.stdout.readline()), nq, 0

    def ask(self, n):
        times = []
        for _ in range(n):
            self.process.stdin.write(f"one {self.next % self.nq}\n")
            self.process.stdin.flush()
            self.next += 1
            times.append(json.loads(self.process.stdout.readline())["seconds"])
        return times

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def unit_rows(n, d, seed):
    rng = random.Random(seed)
    for _ in range(n):
        row = [rng.gauss(0, 1) for _ in range(d)]
        norm = sum(x * x for x in row) ** 0.5
        yield struct.pack(f"<{d}f", *(x / norm for x in row))


def make_embeddings(folder, rows, d):
    for side, seed in (("img_emb", 1), ("text_emb", 2)):
        (folder / side).mkdir(parents=True)
        header = repr({"descr": "<f4", "fortran_order": False, "shape": (rows, d)})
        header += " " * (117 - len(header)) + "\n"
        with open(folder / side / f"{side}_0.npy", "wb") as file:
            file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
            file.writelines(unit_rows(rows, d, seed))


def measure(a, folder):
    sys.path.insert(0, str(HERE.parent / "tests" / "cli"))
    os.environ["RECO"] = a.reco
    import postgres
    if postgres.programs() is None: sys.exit("bench/run fanout: no PostgreSQL with pgvector (scripts/install test brings one)")
    make_embeddings(folder / "e", a.rows * a.shards, a.d)
    (folder / "q.f32").write_bytes(b"".join(unit_rows(64, a.d, 3)))
    servers = [postgres.Server() for _ in range(a.shards)]
    urls = [s.create("b") for s in servers]
    subprocess.run([a.reco, "bank", "build", "--quiet", "--embeddings", folder / "e", "--out", ",".join(urls)], check=True, stdout=subprocess.DEVNULL)
    relays, behind = [], []
    for i, (server, url) in enumerate(zip(servers, urls)):
        ours, theirs = multiprocessing.Pipe()
        relays.append(multiprocessing.Process(target=relay, args=(server.port, a.delay / 2e3, a.lost, theirs, i), daemon=True))
        relays[-1].start()
        behind.append(url.replace(f":{server.port}/", f":{ours.recv()}/"))
    counts = sorted({1, a.shards // 2, a.shards} - {0})
    clients = {n: Client(a.search, ",".join(behind[:n]), folder / "q.f32", 64, 10) for n in counts}
    alone = [Client(a.search, url, folder / "q.f32", 64, 10) for url in behind]
    single, fan = [[] for _ in alone], {n: [] for n in counts}
    for client in (*alone, *clients.values()): client.ask(10)
    for _ in range(a.rounds):
        for i, client in enumerate(alone): single[i].append(client.ask(a.asks // 2))
        for n, client in clients.items(): fan[n] += client.ask(a.asks)
    for client in (*alone, *clients.values()): client.close()
    for process in relays: process.terminate()
    for server in servers: server.stop()
    return single, fan


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reco", required=True)
    parser.add_argument("--search", required=True, help="the program bench/search")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rows", type=int, default=1000, help="of a shard")
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--delay", type=float, default=20, help="milliseconds to a shard and back")
    parser.add_argument("--lost", type=float, default=0.01, help="share of messages that are sent again after 200 ms")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--asks", type=int, default=20, help="questions to all shards in a round")
    parser.add_argument("--draws", type=int, default=50000)
    a = parser.parse_args()
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder: single, fan = measure(a, pathlib.Path(folder))
    for i, rounds in enumerate(single): print(json.dumps({"shard": i, **told(sum(rounds, []))}))
    far = False
    for n, times in fan.items():
        real, played = told(times), told(simulate(single[:n], a.draws, rng))
        ratios = {p: round(played[p + "_ms"] / real[p + "_ms"], 2) for p in ("p50", "p99")}
        far |= any(abs(r - 1) > WITHIN for r in ratios.values())
        print(json.dumps({"shards": n, "asked": len(times), "measured": real, "simulated": played, "ratio": ratios}))
    everything = [sum(times, []) for times in zip(*single)]
    for n in (1, 4, 10, 16, 50): print(json.dumps({"shards on paper": n, **told(simulate([everything] * n, a.draws, rng))}))
    return far


if __name__ == "__main__":
    raise SystemExit(main())
