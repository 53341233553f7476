/**
 * A worker that only holds its cards for a while, in place of a stage's: what becomes of it is in the parameter `size`. It says
 * in `ledger.ndjson` which cards it saw, and which other workers that are alive saw one of them too.
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { hashFolder, identify } from "../../src/artifact/folder.ts"
import { openJournal } from "../../src/runner/journal.ts"
import { decodeTaskFile, outOfMemoryTag, WorkerExit } from "../../src/runner/taskFile.ts"

/** What a size stands for; all others end well. */
export const ends = { fails: 100, killed: 200, silent: 300, hangs: 400, tooLarge: 500 } as const

export interface LedgerLine {
  readonly attempt: string
  readonly pid: number
  readonly cards: ReadonlyArray<string>
  /** Workers that had one of these cards when this one began. */
  readonly clashes: ReadonlyArray<number>
}

export const ledgerOf = (warehouse: string): ReadonlyArray<LedgerLine> => {
  const file = join(warehouse, "ledger.ndjson")
  if (!existsSync(file)) return []
  return (
    readFileSync(file, "utf8")
      .split("\n")
      // the file is there before its first line is
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line))
  )
}

export const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const work = async (dir: string): Promise<void> => {
  // as one that hears nothing before its native call returns
  process.on("SIGTERM", () => undefined)
  const warehouse = dirname(dirname(dir))
  const asked = decodeTaskFile(readFileSync(join(dir, "task.json"), "utf8"))
  const cards = (process.env["CUDA_VISIBLE_DEVICES"] ?? "").split(",")
  const clashes = ledgerOf(warehouse)
    .filter((other) => other.cards.some((card) => cards.includes(card)) && alive(other.pid))
    .map(({ pid }) => pid)
  const line: LedgerLine = { attempt: asked.attempt, pid: process.pid, cards, clashes }
  appendFileSync(join(warehouse, "ledger.ndjson"), `${JSON.stringify(line)}\n`)
  await sleep(150)
  const { size } = asked.params as { readonly size: number }
  const journal = openJournal(join(dir, "journal.ndjson"), { fresh: true })
  const failed = (tag: string): never => {
    journal.append({ t: "end", error: { tag, message: `size ${size}`, stack: "" } })
    journal.close()
    process.exit(WorkerExit.failed)
  }
  if (size >= ends.tooLarge) {
    if ((asked.batchShare ?? 1) === 1) failed(outOfMemoryTag)
  } else if (size >= ends.hangs) {
    await sleep(2 ** 30)
  } else if (size >= ends.silent) process.exit(9)
  else if (size >= ends.killed) process.kill(process.pid, "SIGKILL")
  else if (size >= ends.fails) failed("Fell")
  const out = join(dir, "out", "report")
  mkdirSync(out, { recursive: true })
  writeFileSync(join(out, "report.json"), `${size}`)
  const report = { kind: "report", ...identify("report", await hashFolder(out, { sync: true })) }
  journal.append({ t: "end", outputs: { report } })
  journal.close()
}

if (import.meta.main) await work(process.argv[2]!)
