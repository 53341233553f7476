/**
 * Joins this process with those of the other hosts, and gives a plugin what it needs to make one client over all: three C
 * functions into a key-value store that they share. They may be called from any thread and at any time until `leave`, while
 * this process's main thread is in a call of the plugin too; so they run on threads of their own.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads"
import { type Hosts, HostsApart } from "../../hosts.ts"
import { type CallbackSays, type CallbackStart, callbackFile } from "./callbackThread.ts"
import type { JoinOptions } from "./Member.ts"
import { type Counts, type MemberHears, type MemberSays, type MemberStart, memberFile } from "./memberThread.ts"
import type { Operation } from "./wire.ts"

/** Addresses of C functions. */
export type KeyValue = Readonly<Record<Operation, bigint>>

/** This process among the hosts. */
export interface Joined {
  readonly keyValue: KeyValue
  /** Settles, with the reason, when another host is gone without a word, or with a failure; and when this one has left. */
  readonly lost: Promise<string>
  /** How often plugins called each function. */
  counts(): Promise<Counts>
  /**
   * Goes, once no plugin can call any more. Host 0 stays until the others have gone, for a minute at most.
   * @param failure why this host cannot go on: the others hear of it at once
   */
  leave(failure?: string): Promise<void>
}

/** One thread for what waits, one for what does not. */
const threads: ReadonlyArray<ReadonlyArray<Operation>> = [["get"], ["put", "tryGet"]]

const start = (file: URL, workerData: MemberStart | CallbackStart, transferList: ReadonlyArray<MessagePort>): Worker =>
  new Worker(file, { workerData, transferList: [...transferList], stdout: false, stderr: false })

/** What a thread says next, of some kind. */
const next = <A extends object>(worker: Worker, isIt: (said: A) => boolean): Promise<A> =>
  new Promise((resolve, reject) => {
    const hear = (said: A): void => {
      if (isIt(said)) done(() => resolve(said))
    }
    const fail = (error: unknown): void => done(() => reject(error))
    const end = (code: number): void => fail(new Error(`a thread of several hosts ended with exit code ${code}`))
    const done = (finish: () => void): void => {
      worker.off("message", hear).off("error", fail).off("exit", end)
      finish()
    }
    worker.on("message", hear).on("error", fail).on("exit", end)
  })

const exited = (worker: Worker): Promise<void> =>
  new Promise((resolve) => {
    worker.once("exit", () => resolve())
    worker.postMessage(null)
  })

/**
 * Waits until all hosts have come. Rejects with HostsApart: the coordinator cannot be reached, somebody has not come in time,
 * this host does not belong there (another number of hosts, a number that is taken, another plugin), or its port is taken.
 */
export const joinHosts = async (hosts: Hosts, options: JoinOptions): Promise<Joined> => {
  const channels = threads.map(() => new MessageChannel())
  const ports = channels.map(({ port1 }) => port1)
  const member = start(memberFile, { overtoneMember: true, hosts, options, ports }, ports)
  const first = await next<MemberSays>(member, (said) => "joined" in said || "apart" in said)
  if ("apart" in first) {
    for (const { port2 } of channels) port2.close()
    throw new HostsApart(first.apart)
  }
  let ended = false
  const lost = new Promise<string>((resolve) => {
    member
      .on("message", (said: MemberSays) => {
        if ("lost" in said) resolve(said.lost)
      })
      .on("error", (error) => resolve(`the thread that speaks for this host failed: ${String(error)}`))
      .on("exit", () => {
        ended = true
        resolve("the thread that speaks for this host has ended")
      })
  })
  const tell = (heard: MemberHears): void => member.postMessage(heard)
  const callbacks = threads.map((overtoneCallbacks, i) => {
    const port = channels[i]!.port2
    return start(callbackFile, { overtoneCallbacks, port }, [port])
  })
  const ready = await Promise.all(callbacks.map((worker) => next<CallbackSays>(worker, () => true)))
  const addresses: Partial<Record<Operation, bigint>> = Object.assign({}, ...ready.map((said) => said.addresses))
  const { get, put, tryGet } = addresses
  if (get === undefined || put === undefined || tryGet === undefined) throw new Error("a thread gave no address")
  let gone: Promise<void> | undefined
  return {
    keyValue: { get, put, tryGet },
    lost,
    counts: async () => {
      if (ended) throw new HostsApart(await lost)
      const answer = next<MemberSays>(member, (said) => "counts" in said)
      tell({ count: true })
      const said = await answer
      return "counts" in said ? said.counts : { get: 0, put: 0, tryGet: 0 }
    },
    leave: (failure) => {
      gone ??= (async () => {
        if (!ended) {
          const left = next<MemberSays>(member, (said) => "left" in said)
          tell({ leave: failure ?? null })
          await left
        }
        await Promise.all(callbacks.map(exited))
      })()
      return gone
    }
  }
}
