/** The clients of this process: one a plugin, shared by its devices. */
import { Client } from "./Client.ts"
import { Pjrt } from "./pjrt.ts"
import { locatePlugin, type Plugin } from "./plugins.ts"

/** The plugin cannot be had; the message says why. */
export class PluginAbsent extends Error {}

/** How many devices the CPU plugin shows: what many cards are tried with. */
export interface ClientOptions {
  readonly cpuDevices?: number
}

interface Held {
  readonly opening: Promise<Client>
  holders: number
}

const clients = new Map<string, Held>()

const keyOf = (plugin: Plugin, { cpuDevices = 1 }: ClientOptions) => `${plugin.name} ${cpuDevices}`

/**
 * A plugin's client, shared by all who hold it; each gives it back by `closeClient`. Rejects with PluginAbsent, or with the
 * plugin's own PjrtFailure.
 */
export const openClient = (plugin: Plugin, options: ClientOptions = {}): Promise<Client> => {
  const key = keyOf(plugin, options)
  const known = clients.get(key)
  if (known) {
    known.holders++
    return known.opening
  }
  const opening = open(plugin, options.cpuDevices ?? 1)
  clients.set(key, { opening, holders: 1 })
  opening.catch(() => clients.delete(key))
  return opening
}

/** Gives a client back. With the last holder it ends, and its threads: a process that exits under them is aborted. */
export const closeClient = async (plugin: Plugin, options: ClientOptions = {}): Promise<void> => {
  const key = keyOf(plugin, options)
  const held = clients.get(key)
  if (held === undefined || --held.holders > 0) return
  clients.delete(key)
  const client = await held.opening
  client.destroy()
}

/** A plugin's functions, from where `locate...` found it. Throws PluginAbsent with the reason. */
export const openPlugin = (located: ReturnType<typeof locatePlugin>): Pjrt => {
  if ("missing" in located) throw new PluginAbsent(located.missing)
  // its own notes of what it is about to do would go to this process's stderr; errors come back as errors
  process.env["TF_CPP_MIN_LOG_LEVEL"] ??= "3"
  try {
    return new Pjrt(located.path)
  } catch (error) {
    throw new PluginAbsent(`${located.path} cannot be opened: ${error instanceof Error ? error.message : error}`)
  }
}

/**
 * The share of each card's memory that a task takes at once, so that it does not fall into pieces: OVERTONE_GPU_MEMORY,
 * default 0.9. Throws PluginAbsent where that is no share.
 */
export const memoryShare = (text = process.env["OVERTONE_GPU_MEMORY"]): number => {
  if (text === undefined || text === "") return 0.9
  const share = Number(text)
  if (share > 0 && share <= 1) return share
  throw new PluginAbsent(
    `OVERTONE_GPU_MEMORY=${text} is no share of a card's memory: write a number above 0, at most 1 (default 0.9)`
  )
}

const open = async (plugin: Plugin, cpuDevices: number): Promise<Client> => {
  const pjrt = openPlugin(locatePlugin(plugin))
  return Client.open(
    pjrt,
    plugin.name === "cpu"
      ? { cpu_device_count: BigInt(cpuDevices) }
      : { memory_fraction: memoryShare(), preallocate: true }
  )
}
