/**
 * Several hosts: one process on each, told apart by number, that find each other at the address of host 0 (JAX's coordinator
 * address). What one process has to know of that, and where it is said: four environment variables, which a scheduler sets
 * (under Slurm OVERTONE_HOST_ID is SLURM_PROCID), or the key `hosts` of an executor file, which fills in those that are not
 * set (`cli/executor.ts`). Pure; who joins is `xla/hosts/join.ts`.
 *
 *   OVERTONE_COORDINATOR   HOST:PORT of host 0, as the others reach it
 *   OVERTONE_HOSTS         how many there are
 *   OVERTONE_HOST_ID       this one's number, from 0
 *   OVERTONE_HOSTS_SECRET  a word that all share; whoever does not know it is turned away. May be left out
 */

export interface Hosts {
  readonly coordinator: { readonly host: string; readonly port: number }
  /** At least 2. */
  readonly count: number
  /** 0 <= id < count. */
  readonly id: number
  readonly secret: string
}

/** What is said of the hosts cannot be so; the message says why. */
export class BadHosts extends Error {}

/** The hosts did not come together, or are apart again; the message says which and why. */
export class HostsApart extends Error {}

/** `node0.cluster:7788`, `[fe80::1]:7788`. */
export const addressText = ({ host, port }: Hosts["coordinator"]): string =>
  `${host.includes(":") ? `[${host}]` : host}:${port}`

/** Whether a name is this machine's alone. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host)

/** What `addressText` writes, read; undefined where it is none. */
export const addressOf = (text: string): Hosts["coordinator"] | undefined => {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text.trim()) ?? []
  const host = bracketed ?? plain
  const port = Number(digits)
  return host !== undefined && port >= 1 && port <= 65_535 ? { host, port } : undefined
}

const whole = (text: string): number => (/^\s*\d{1,6}\s*$/.test(text) ? Number(text) : Number.NaN)

/** The hosts that the environment speaks of; undefined where it speaks of none, or of one. Throws BadHosts. */
export const hostsOf = (environment: Readonly<Record<string, string | undefined>>): Hosts | undefined => {
  const said = (name: string) => {
    const text = environment[name]
    return text === undefined || text.trim() === "" ? undefined : text
  }
  const coordinator = said("OVERTONE_COORDINATOR")
  const hosts = said("OVERTONE_HOSTS")
  const hostId = said("OVERTONE_HOST_ID")
  if (hosts === undefined) {
    const alone =
      coordinator === undefined ? (hostId === undefined ? undefined : "OVERTONE_HOST_ID") : "OVERTONE_COORDINATOR"
    if (alone === undefined) return undefined
    throw new BadHosts(`${alone} is set, and OVERTONE_HOSTS is not: write how many hosts there are`)
  }
  const count = whole(hosts)
  if (!(count >= 1)) throw new BadHosts(`OVERTONE_HOSTS=${hosts} is no number of hosts: write a whole number from 1`)
  if (count === 1) return undefined
  if (coordinator === undefined) {
    throw new BadHosts(`OVERTONE_HOSTS=${count} needs OVERTONE_COORDINATOR, the address HOST:PORT of host 0`)
  }
  if (hostId === undefined) {
    throw new BadHosts(`OVERTONE_HOSTS=${count} needs OVERTONE_HOST_ID, the number of this host from 0 to ${count - 1}`)
  }
  const id = whole(hostId)
  if (!(id < count)) {
    throw new BadHosts(`OVERTONE_HOST_ID=${hostId} is none of ${count} hosts: write a number from 0 to ${count - 1}`)
  }
  const address = addressOf(coordinator)
  if (address === undefined) {
    throw new BadHosts(`OVERTONE_COORDINATOR=${coordinator} is no address of host 0: write HOST:PORT, as node0:7788`)
  }
  return { coordinator: address, count, id, secret: environment["OVERTONE_HOSTS_SECRET"] ?? "" }
}
