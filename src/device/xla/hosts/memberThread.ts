/**
 * The thread that holds a host's connection, and on host 0 the coordinator: what a plugin asks must be answered while the main
 * thread computes, or waits in a call of that very plugin.
 */
import type { MessagePort } from "node:worker_threads"
import { isMainThread, parentPort, workerData } from "node:worker_threads"
import { type Hosts, HostsApart } from "../../hosts.ts"
import { Coordinator } from "./Coordinator.ts"
import { defaults, type JoinOptions, Member } from "./Member.ts"
import type { Answer, Operation, Request } from "./wire.ts"

export const memberFile = new URL(import.meta.url)

export interface MemberStart {
  readonly overtoneMember: true
  readonly hosts: Hosts
  readonly options: JoinOptions
  /** From the threads that plugins call. */
  readonly ports: ReadonlyArray<MessagePort>
}

/** What a plugin's thread asks for; `done` is set to 1, and whoever waits for it woken, once the answer is in the port. */
export interface Asked extends Request {
  /** Names the answer: whoever asked may have given up waiting, and asked for something else since. */
  readonly number: number
  readonly done: Int32Array<SharedArrayBuffer>
}

export interface Answered {
  readonly number: number
  readonly answer: Answer
}

export type Counts = Readonly<Record<Operation, number>>

/** What it says. */
export type MemberSays =
  | { readonly joined: true }
  | { readonly apart: string }
  | { readonly lost: string }
  | { readonly counts: Counts }
  | { readonly left: true }

/** What it is told: to go (why, where that is a failure), or to say how often it was asked. */
export type MemberHears = { readonly leave: string | null } | { readonly count: true }

/** How long host 0 stays for the others to go: at the end of work, and after a failure. */
const graceMs = { ended: 60_000, failed: 2000 } as const

const isStart = (value: unknown): value is MemberStart =>
  typeof value === "object" && value !== null && "overtoneMember" in value

const serve = async ({ hosts, options, ports }: MemberStart): Promise<void> => {
  const port = parentPort!
  const say = (said: MemberSays): void => port.postMessage(said)
  const { identity, silenceMs = defaults.silenceMs } = options
  const counts: Record<Operation, number> = { get: 0, put: 0, tryGet: 0 }
  let coordinator: Coordinator | undefined
  let member: Member
  try {
    if (hosts.id === 0) coordinator = await Coordinator.listen(hosts, identity, silenceMs)
    member = await Member.join(hosts, options)
  } catch (error) {
    await coordinator?.close(graceMs.failed)
    if (!(error instanceof HostsApart)) throw error
    say({ apart: error.message })
    return port.close()
  }
  member.onLost = (why) => say({ lost: why })
  for (const asking of ports) {
    asking.on("message", ({ done, number, ...request }: Asked) => {
      counts[request.operation]++
      void member.ask(request).then((answer: Answer) => {
        asking.postMessage({ number, answer } satisfies Answered)
        Atomics.store(done, 0, 1)
        Atomics.notify(done, 0)
      })
    })
  }
  port.on("message", async (heard: MemberHears) => {
    if ("count" in heard) return say({ counts })
    await member.leave(heard.leave)
    await coordinator?.close(heard.leave === null ? graceMs.ended : graceMs.failed)
    say({ left: true })
    for (const asking of ports) asking.close()
    port.close()
  })
  say({ joined: true })
}

if (!isMainThread && isStart(workerData)) await serve(workerData)
