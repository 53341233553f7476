/** The clients of this process: one a plugin, opened once and kept. */
import { Client } from "./Client.ts"
import { Pjrt } from "./pjrt.ts"
import { locatePlugin, type Plugin } from "./plugins.ts"

/** The plugin cannot be had; the message says why. */
export class PluginAbsent extends Error {}

/** How many devices the CPU plugin shows: what many cards are tried with. */
export interface ClientOptions {
  readonly cpuDevices?: number
}

const clients = new Map<string, Promise<Client>>()

/** A plugin's client. Rejects with PluginAbsent, or with the plugin's own PjrtFailure. */
export const openClient = (plugin: Plugin, { cpuDevices = 1 }: ClientOptions = {}): Promise<Client> => {
  const key = `${plugin.name} ${cpuDevices}`
  const known = clients.get(key)
  if (known) return known
  const opening = open(plugin, cpuDevices)
  clients.set(key, opening)
  opening.catch(() => clients.delete(key))
  return opening
}

const open = async (plugin: Plugin, cpuDevices: number): Promise<Client> => {
  const located = locatePlugin(plugin)
  if ("missing" in located) throw new PluginAbsent(located.missing)
  // its own notes of what it is about to do would go to this process's stderr; errors come back as errors
  process.env["TF_CPP_MIN_LOG_LEVEL"] ??= "3"
  let pjrt: Pjrt
  try {
    pjrt = new Pjrt(located.path)
  } catch (error) {
    throw new PluginAbsent(`${located.path} cannot be opened: ${error instanceof Error ? error.message : error}`)
  }
  return Client.open(pjrt, plugin.name === "cpu" ? { cpu_device_count: BigInt(cpuDevices) } : {})
}
