/**
 * A thread whose functions plugins call: `PJRT_KeyValueGetCallback` and its siblings (pjrt_c_api.h), of which each must answer
 * before it returns. There are two such threads, as a `get` waits for what another host has yet to put: what this host puts
 * must not stand in line behind it. Of several `get` of one host one is answered after the other.
 *
 * The structs are filled by plugins, which leave their sizes unset. Offsets:
 *
 *            key  its size  timeout  value  its size  callback_error  user  value out  its size  deleter
 *   get       16        24       32                               40    48         56        64       72
 *   tryGet    16        24                                        32    40         48        56       64
 *   put       16        24               32        40             48    56
 *
 * A value is given in memory of malloc, and `free` is its deleter. An error is made by the plugin's own `*callback_error`.
 */
import type { MessagePort } from "node:worker_threads"
import { isMainThread, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads"
import {
  bytesAt,
  type Callback,
  callback,
  functionAt,
  libraryFunction,
  memoryAt,
  ownLibrary,
  type Pointer,
  symbolAddress
} from "../../ffi.ts"
import { nativeText, textAt } from "../pjrt.ts"
import type { Answered, Asked } from "./memberThread.ts"
import { type Answer, type Operation, type Request, status } from "./wire.ts"

export const callbackFile = new URL(import.meta.url)

export interface CallbackStart {
  readonly overtoneCallbacks: ReadonlyArray<Operation>
  /** To the thread that holds the connection. */
  readonly port: MessagePort
}

/** What it says when it is ready: addresses of functions, by what they do. */
export interface CallbackSays {
  readonly addresses: Readonly<Partial<Record<Operation, bigint>>>
}

const layouts = {
  get: { bytes: 80, timeout: 32, input: null, error: 40, output: 56 },
  tryGet: { bytes: 72, timeout: null, input: null, error: 32, output: 48 },
  put: { bytes: 64, timeout: null, input: 32, error: 48, output: null }
} as const

/** Beyond the time that a `get` may take itself: nobody answers any more. */
const unansweredMs = 30_000

/** The answer of a number, if it has come. Those of others came too late for who waited, and are dropped. */
export const answerOf = (port: MessagePort, number: number): Answer | undefined => {
  for (;;) {
    const said: Answered | undefined = receiveMessageOnPort(port)?.message
    if (said === undefined) return undefined
    if (said.number === number) return said.answer
  }
}

const isStart = (value: unknown): value is CallbackStart =>
  typeof value === "object" && value !== null && "overtoneCallbacks" in value

const serve = ({ overtoneCallbacks, port }: CallbackStart): void => {
  const own = ownLibrary()
  const malloc = libraryFunction<[number], Pointer>(own, "malloc", "void *", ["size_t"])
  const free = symbolAddress(own, "free")

  let asked = 0
  /** Asks the other thread, and waits. */
  const ask = (request: Request): Answer => {
    const done = new Int32Array(new SharedArrayBuffer(4))
    const number = asked++
    port.postMessage({ ...request, number, done } satisfies Asked)
    Atomics.wait(done, 0, 0, (request.timeoutMs ?? 0) + unansweredMs)
    const unanswered = { code: status.internal, message: "the thread that holds the hosts' connection does not answer" }
    return answerOf(port, number) ?? unanswered
  }

  const answerTo = (operation: Operation) => {
    const at = layouts[operation]
    return (address: bigint): Pointer => {
      const args = memoryAt(address, at.bytes)
      const pointer = (offset: number) => args.getBigUint64(offset, true)
      const size = (offset: number) => Number(pointer(offset))
      const refuse = (code: number, message: string): Pointer => {
        const text = nativeText(message)
        const make = functionAt<[number, bigint, number], Pointer>(
          new DataView(bytesAt(pointer(at.error), 8).buffer).getBigUint64(0, true),
          "void *",
          ["int", "void *", "size_t"]
        )
        return make(code, text.address, text.byteLength)
      }
      // should nothing be made of it below, the plugin finds an empty value and not what lay there
      if (at.output !== null) {
        args.setBigUint64(at.output, 0n, true)
        args.setBigUint64(at.output + 8, 0n, true)
        args.setBigUint64(at.output + 16, free, true)
      }
      try {
        const answer = ask({
          operation,
          key: textAt(pointer(16), size(24)),
          ...(at.input === null ? {} : { value: bytesAt(pointer(at.input), size(at.input + 8)) }),
          ...(at.timeout === null ? {} : { timeoutMs: args.getInt32(at.timeout, true) })
        })
        if ("code" in answer) return refuse(answer.code, answer.message)
        if (at.output !== null) {
          const { length } = answer.value
          const memory = malloc(Math.max(1, length))
          if (memory === null) return refuse(status.internal, `no memory for a value of ${length} bytes`)
          if (length > 0) new Uint8Array(memoryAt(memory, length).buffer).set(answer.value)
          args.setBigUint64(at.output, memory, true)
          args.setBigUint64(at.output + 8, BigInt(length), true)
        }
        return null
      } catch (error) {
        return refuse(status.internal, error instanceof Error ? error.message : String(error))
      }
    }
  }

  const callbacks = new Map<Operation, Callback>()
  for (const operation of overtoneCallbacks) callbacks.set(operation, callback(answerTo(operation)))
  parentPort!.once("message", () => {
    for (const { release } of callbacks.values()) release()
    port.close()
    parentPort!.close()
  })
  const addresses = Object.fromEntries([...callbacks].map(([operation, { address }]) => [operation, address]))
  parentPort!.postMessage({ addresses } satisfies CallbackSays)
}

if (!isMainThread && isStart(workerData)) serve(workerData)
