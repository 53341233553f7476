/**
 * Ours beside a peer's on the same work in the same minutes: the two run in turn, each in its own process, and medians
 * over the rounds are compared. The peer is a script that takes a work's name and prints a JSON object with
 * `tokens_per_second`, as PyTorch's does.
 *
 *   node bench/peers.ts --python PYTHON --peer PEER.PY --models DIR [--threads 2] [--rounds 3] [train17m decode135m]
 */
import { execFile } from "node:child_process"
import { join } from "node:path"
import { parseArgs, promisify } from "node:util"
import type { WorkReport } from "./engine.ts"
import { median } from "./median.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    python: { type: "string", default: "python3" },
    peer: { type: "string" },
    models: { type: "string", default: "models" },
    threads: { type: "string", default: "2" },
    rounds: { type: "string", default: "3" }
  }
})
if (values.peer === undefined) throw new Error("--peer names the script of the peer")
const { models, peer, python, rounds, threads } = values

const execute = promisify(execFile)
const lastLine = (text: string) => text.trim().split("\n").at(-1)!

const ours = async (work: string): Promise<WorkReport> => {
  const args = [join(import.meta.dirname, "engine.ts"), "--threads", threads, "--repeat", "2", work]
  return JSON.parse(lastLine((await execute(process.execPath, args)).stdout))
}
const theirs = async (work: string): Promise<{ readonly tokens_per_second: number }> => {
  const args = [peer, work, "--models", models, "--threads", threads]
  return JSON.parse(lastLine((await execute(python, args)).stdout))
}

for (const work of positionals.length > 0 ? positionals : ["train17m", "decode135m"]) {
  const mine: Array<WorkReport> = []
  const other: Array<number> = []
  for (let round = 0; round < Number(rounds); round++) {
    mine.push(await ours(work))
    other.push((await theirs(work)).tokens_per_second)
  }
  const rate = median(mine.map((one) => one.tokensPerSecond))
  console.log(
    JSON.stringify({
      work,
      threads: Number(threads),
      rounds: Number(rounds),
      tokensPerSecond: rate,
      peerTokensPerSecond: median(other),
      ratio: rate / median(other),
      ratioPerRound: mine.map((one, i) => one.tokensPerSecond / other[i]!),
      ofMatmul: median(mine.map((one) => one.gflops / one.matmulGflops)),
      runShare: median(mine.map((one) => one.runShare))
    })
  )
}
