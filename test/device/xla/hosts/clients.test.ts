/**
 * A plugin that asks the hosts' store, in two processes on loopback. The plugin is C (`plugin.c`), as no plugin that can be had
 * here asks: XLA's on the CPU knows nothing of hosts, and NVIDIA's looks for a card first. Without a C compiler it is skipped.
 */
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { HostsApart } from "../../../../src/device/hosts.ts"
import { openClient } from "../../../../src/device/xla/openClient.ts"
import { cpuPlugin, locateCompiler, locatePlugin } from "../../../../src/device/xla/plugins.ts"
import { absent, titled } from "../support.ts"
import type { Seen, Task } from "./host.ts"
import { freePort } from "./port.ts"

const folder = mkdtempSync(join(tmpdir(), "overtone-hosts-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const compiler = ["cc", "gcc", "clang"].find((name) => spawnSync(name, ["--version"]).status === 0)

/** Options travel as JSON, which knows no bigint. */
const bigAsText = (_: string, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)

/** Two processes, host 0 and host 1; what each saw of each client. */
const two = async (
  plugin: string,
  clients: Task["clients"] = [{}],
  later = false
): Promise<readonly [ReadonlyArray<Seen>, ReadonlyArray<Seen>]> => {
  const port = await freePort()
  const task: Task = { plugin, clients, later, deadlineMs: 300_000 }
  const host = (id: number) =>
    new Promise<ReadonlyArray<Seen>>((resolve, reject) => {
      const child = spawn(
        process.execPath,
        [
          "--disable-warning=ExperimentalWarning",
          join(import.meta.dirname, "host.ts"),
          JSON.stringify(task, bigAsText)
        ],
        {
          stdio: ["ignore", "pipe", "pipe"],
          timeout: 600_000,
          env: {
            ...process.env,
            TF_CPP_MIN_LOG_LEVEL: "3",
            OVERTONE_COORDINATOR: `127.0.0.1:${port}`,
            OVERTONE_HOSTS: "2",
            OVERTONE_HOST_ID: String(id)
          }
        }
      )
      const said = { out: "", err: "" }
      child.stdout.setEncoding("utf8").on("data", (text) => (said.out += text))
      child.stderr.setEncoding("utf8").on("data", (text) => (said.err += text))
      child.on("close", (code, signal) => {
        if (code === 0) resolve(JSON.parse(said.out))
        // it killed itself
        else if (signal === "SIGKILL") resolve([])
        else reject(new Error(`host ${id} ended with ${signal ?? code}: ${said.err}`))
      })
    })
  return Promise.all([host(0), host(1)])
}

const why = compiler === undefined ? " (skipped: there is no C compiler)" : ""
describe.skipIf(compiler === undefined)(`a plugin over two hosts${why}`, () => {
  const plugin = join(folder, "plugin.so")
  beforeAll(() => {
    const source = join(import.meta.dirname, "plugin.c")
    const { status, stderr } = spawnSync(
      compiler!,
      ["-Wall", "-shared", "-fPIC", "-O1", "-pthread", "-o", plugin, source],
      { encoding: "utf8" }
    )
    if (status !== 0) throw new Error(stderr)
  })

  it("asks as XLA does, of many threads at once and from under a blocked main thread; errors are its own", async () => {
    const scenarios = ["own", "many", "large", "try", "twice", "timeout"]
    const [zero, one] = await two(
      plugin,
      scenarios.map((scenario) => ({ scenario }))
    )
    for (const [id, seen] of [zero, one].entries()) {
      const [own, many, large, tried, twice, timeout] = seen
      expect(own).toMatchObject({ index: id, devices: [2, 4] })
      // a get waits for what another thread of the process puts, while the event loop goes on
      expect(own!.said).toBe("mine")
      expect(own!.ticks).toBeGreaterThan(0)
      // 0 + 1 + ... + 39
      expect(many!.said).toBe("780")
      expect(large!.said).toBe("8388608 bytes, equal")
      // a key that is not there, and an empty value
      expect(tried!.said).toBe("5, then 0 bytes")
      expect(twice!.failed).toEqual([6, `the key twice/${id} is there already`])
      expect(timeout!.failed).toEqual([4, "no host has put the key nobody puts this within 200 ms"])
      expect(timeout!.counts).toEqual({ get: 43, put: id === 0 ? 45 : 44, tryGet: 2 })
    }
  })

  it("hosts exchange what they have, and ask again while their main threads wait in the plugin", async () => {
    const [[zero], [one]] = await two(plugin, [{ scenario: "exchange" }], true)
    // host 0: its devices, those of all, and the later key; gets of two and of all. Host 1 gets all, and the later key
    expect(zero).toMatchObject({ said: "0|gpu;1|gpu;", index: 0, counts: { get: 3, put: 3, tryGet: 0 } })
    expect(one).toMatchObject({ said: "0|gpu;1|gpu;", index: 1, counts: { get: 2, put: 1, tryGet: 0 } })
  })

  it("where one host has no card, the other hears of it and does not wait", async () => {
    const [[zero], [one]] = await two(plugin, [{ scenario: "cardless" }])
    expect(one!.failed).toEqual([9, "No visible cards"])
    expect(zero!.failed?.[0]).toBe(14)
    expect(zero!.failed?.[1]).toMatch(/host 1 \(127\.0\.0\.1:\d+\) is gone: No visible cards/)
    expect(zero!.lost).toMatch(/host 1 .* No visible cards/)
  })

  it("where one host's process is killed, the other does not wait either", async () => {
    const [[zero]] = await two(plugin, [{ scenario: "killed" }])
    expect(zero!.failed?.[0]).toBe(14)
    expect(zero!.failed?.[1]).toMatch(/host 1 \(.*\) is gone: its connection broke off/)
  })
})

describe.skipIf(absent !== undefined)(titled("XLA's CPU plugin over two hosts"), () => {
  it("takes the store and the number of hosts without a word, and asks for nothing: each host is alone", async () => {
    const located = locatePlugin(cpuPlugin)
    if (!("path" in located)) throw new Error(located.missing)
    for (const [seen] of await two(located.path, [{ cpu_device_count: 2n }])) {
      expect(seen).toMatchObject({ index: 0, devices: [2, 2], counts: { get: 0, put: 0, tryGet: 0 } })
    }
  })

  it("is refused as a client over several hosts, by what it says of itself", async () => {
    const port = await freePort()
    const coordinator = { host: "127.0.0.1", port }
    const opening = [0, 1].map((id) => openClient(cpuPlugin, { hosts: { coordinator, count: 2, id, secret: "" } }))
    const errors = await Promise.all(opening.map((one) => one.catch((error: unknown) => error)))
    for (const [id, error] of errors.entries()) {
      expect(error).toBeInstanceOf(HostsApart)
      expect(String(error)).toMatch(
        `xla:cpu makes no client over 2 hosts: to host ${id} it is process 0 with 1 of 1 devices`
      )
    }
  })
})

const cuda = locateCompiler()
const noCuda = "missing" in cuda ? ` (skipped: ${cuda.missing})` : ""
describe.skipIf("missing" in cuda)(`NVIDIA's plugin over two hosts without a card${noCuda}`, () => {
  it("knows num_nodes and node_id, and looks for a card before it asks the store", async () => {
    if (!("path" in cuda)) return
    for (const [seen] of await two(cuda.path)) {
      expect(seen!.failed?.[1]).toMatch(/No visible GPU devices/)
      expect(seen!.counts).toEqual({ get: 0, put: 0, tryGet: 0 })
    }
  })
})
