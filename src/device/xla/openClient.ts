/** The clients of this process: one a plugin, shared by its devices; with other hosts, one over all of them. */
import { addressText, type Hosts, HostsApart } from "../hosts.ts"
import { Client } from "./Client.ts"
import { type Joined, joinHosts } from "./hosts/join.ts"
import { type OptionValue, Pjrt } from "./pjrt.ts"
import { isGpu, locatePlugin, type Plugin } from "./plugins.ts"

/** The plugin cannot be had; the message says why. */
export class PluginAbsent extends Error {}

export interface ClientOptions {
  /** How many devices the CPU plugin shows: what many cards are tried with. */
  readonly cpuDevices?: number
  /** The hosts whose devices it is to have, this one's among them; this one's alone where it is left out. */
  readonly hosts?: Hosts
  /** How long to wait for the other hosts, in milliseconds. */
  readonly deadlineMs?: number
}

/** A client, and this process's place among the hosts that share it. */
export interface Opened {
  readonly client: Client
  readonly joined: Joined | undefined
}

interface Held {
  readonly opening: Promise<Opened>
  holders: number
}

const clients = new Map<string, Held>()

const keyOf = ({ name }: Plugin, { cpuDevices = 1, hosts }: ClientOptions) =>
  hosts === undefined ? `${name} ${cpuDevices}` : `${name} ${cpuDevices} ${addressText(hosts.coordinator)} ${hosts.id}`

/** As `openClient`, with what is known of the other hosts. */
export const openClientWith = (plugin: Plugin, options: ClientOptions = {}): Promise<Opened> => {
  const key = keyOf(plugin, options)
  const known = clients.get(key)
  if (known) {
    known.holders++
    return known.opening
  }
  const opening = open(plugin, options)
  clients.set(key, { opening, holders: 1 })
  opening.catch(() => clients.delete(key))
  return opening
}

/**
 * A plugin's client, shared by all who hold it; each gives it back by `closeClient`. Rejects with PluginAbsent, with the
 * plugin's own PjrtFailure, or with HostsApart where not all hosts come together.
 */
export const openClient = async (plugin: Plugin, options: ClientOptions = {}): Promise<Client> =>
  (await openClientWith(plugin, options)).client

/**
 * Gives a client back. With the last holder it ends, and its threads: a process that exits under them is aborted.
 * @param failure why this host cannot go on, for the others
 */
export const closeClient = async (plugin: Plugin, options: ClientOptions = {}, failure?: string): Promise<void> => {
  const key = keyOf(plugin, options)
  const held = clients.get(key)
  if (held === undefined || --held.holders > 0) return
  clients.delete(key)
  const { client, joined } = await held.opening
  client.destroy()
  await joined?.leave(failure)
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

/** What a plugin is told when it makes a client. */
const optionsOf = (
  plugin: Plugin,
  { cpuDevices = 1, hosts }: ClientOptions
): Readonly<Record<string, OptionValue>> => ({
  ...(plugin.name === "cpu" ? { cpu_device_count: BigInt(cpuDevices) } : {}),
  ...(isGpu(plugin) ? { memory_fraction: memoryShare(), preallocate: true } : {}),
  // as JAX names them; the CUDA plugin is the default
  ...(plugin.name === "rocm" ? { platform_name: "ROCM" } : {}),
  ...(plugin.name === "oneapi" ? { platform_name: "SYCL" } : {}),
  ...(hosts === undefined ? {} : { num_nodes: BigInt(hosts.count), node_id: BigInt(hosts.id) })
})

const open = async (plugin: Plugin, options: ClientOptions): Promise<Opened> => {
  const { deadlineMs, hosts } = options
  const pjrt = openPlugin(locatePlugin(plugin))
  const own = optionsOf(plugin, options)
  if (hosts === undefined) return { client: await Client.open(pjrt, own), joined: undefined }
  const identity = `${plugin.provider} ${plugin.version}`
  const joined = await joinHosts(hosts, { identity, ...(deadlineMs === undefined ? {} : { deadlineMs }) })
  try {
    const client = await Client.open(pjrt, own, joined.keyValue)
    const { devices, devicesEverywhere, processIndex } = client
    // a plugin that knows nothing of hosts says nothing of it either
    if (processIndex === hosts.id && devicesEverywhere > devices.length) return { client, joined }
    client.destroy()
    const seen = `it is process ${processIndex} with ${devices.length} of ${devicesEverywhere} devices`
    throw new HostsApart(`${plugin.provider} makes no client over ${hosts.count} hosts: to host ${hosts.id} ${seen}`)
  } catch (error) {
    await joined.leave(error instanceof Error ? error.message : String(error))
    throw error
  }
}
