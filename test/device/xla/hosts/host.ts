/** One of several hosts, as a process: joins, makes clients of a plugin, and says what it saw as a line of JSON. */
import { hostsOf } from "../../../../src/device/hosts.ts"
import { Client } from "../../../../src/device/xla/Client.ts"
import { joinHosts } from "../../../../src/device/xla/hosts/join.ts"
import { status } from "../../../../src/device/xla/hosts/wire.ts"
import { type OptionValue, Pjrt, PjrtFailure } from "../../../../src/device/xla/pjrt.ts"

export interface Task {
  readonly plugin: string
  /** Of each client that is made, one after the other; the hosts stay together meanwhile. */
  readonly clients: ReadonlyArray<Readonly<Record<string, OptionValue>>>
  /** Whether to call the fake plugin's function that asks the store while the main thread waits in it. */
  readonly later: boolean
  readonly deadlineMs: number
}

/** Of one client. */
export interface Seen {
  readonly said?: string
  readonly index?: number
  readonly devices?: readonly [number, number]
  /** How often the event loop came round meanwhile. */
  readonly ticks?: number
  /** Code and message. */
  readonly failed?: readonly [number, string]
  /** Who is gone, where somebody is. */
  readonly lost?: string
  /** How often the plugin asked, so far. */
  readonly counts: { readonly get: number; readonly put: number; readonly tryGet: number }
}

const host = async ({ clients, deadlineMs, later, plugin }: Task): Promise<ReadonlyArray<Seen>> => {
  const hosts = hostsOf(process.env)!
  const joined = await joinHosts(hosts, { identity: "a plugin", deadlineMs, silenceMs: 300_000 })
  const pjrt = new Pjrt(plugin)
  const seen: Array<Seen> = []
  let failure: string | undefined
  for (const options of clients) {
    let ticks = 0
    const timer = setInterval(() => ticks++, 5)
    try {
      const all = { ...options, num_nodes: BigInt(hosts.count), node_id: BigInt(hosts.id) }
      const client = await Client.open(pjrt, all, joined.keyValue)
      // blocks this thread until the other host has put
      if (later) pjrt.call("Client_Compile", (a) => a.pointer(16, client.pointer))
      const { devices, devicesEverywhere, platformVersion, processIndex } = client
      client.destroy()
      const counts = await joined.counts()
      seen.push({
        said: platformVersion,
        index: processIndex,
        devices: [devices.length, devicesEverywhere],
        counts,
        ticks
      })
    } catch (error) {
      if (!(error instanceof PjrtFailure)) throw error
      failure = error.message
      // where somebody is gone, that is said on two ways
      const lost = error.code === status.unavailable ? await joined.lost : undefined
      seen.push({ failed: [error.code, error.message], ...(lost && { lost }), counts: await joined.counts() })
    }
    clearInterval(timer)
  }
  // of several clients each may fail: the others' are still to come
  await joined.leave(clients.length === 1 ? failure : undefined)
  return seen
}

/** Options travel as JSON, which knows no bigint. */
const textAsBig = (_: string, value: unknown) =>
  typeof value === "string" && /^\d+n$/.test(value) ? BigInt(value.slice(0, -1)) : value

if (import.meta.main) console.log(JSON.stringify(await host(JSON.parse(process.argv[2]!, textAsBig))))
