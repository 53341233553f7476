/** Who exchanges in a collective: the four ways in which XLA writes it. Bytes are those of programs compiled for eight H100s. */
import { describe, expect, it } from "vitest"
import { accountOf } from "../../../src/device/xla/hlo/account.ts"
import { groupsOf } from "../../../src/device/xla/hlo/groups.ts"
import type { HloModule, Instruction } from "../../../src/device/xla/hlo/Hlo.ts"
import { Message } from "../../../src/device/xla/hlo/wire.ts"

/** An instruction with one field, whose number is below 128. */
const withField = (...given: ReadonlyArray<readonly [field: number, hex: string]>) =>
  new Message(
    Uint8Array.from(
      given.flatMap(([field, hex]) => {
        const bytes = Buffer.from(hex, "hex")
        const tag = field * 8 + 2
        return [(tag & 127) | 128, tag >> 7, bytes.length, ...bytes]
      })
    )
  )

describe("groups of a collective", () => {
  it.each([
    [
      "one by one",
      87,
      "0a060a04000102030a060a0404050607",
      [
        [0, 1, 2, 3],
        [4, 5, 6, 7]
      ]
    ],
    [
      "counted up",
      92,
      "080410021a0108220100",
      [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7]
      ]
    ],
    // 0 ... 7 as 4 x 2, transposed, in two rows
    [
      "counted up and transposed",
      92,
      "080210041a02040222020100",
      [
        [0, 2, 4, 6],
        [1, 3, 5, 7]
      ]
    ],
    // 2 x 2 x 2 with its axes the other way round: places 0, 1, 2, ... hold 0, 4, 2, 6, 1, 5, 3, 7
    [
      "counted up, three axes",
      92,
      "080410021a030202022203020100",
      [
        [0, 4],
        [2, 6],
        [1, 5],
        [3, 7]
      ]
    ],
    ["the only axis of a mesh", 93, "0a0c0a0a0a06617869735f3010081200", [[0, 1, 2, 3, 4, 5, 6, 7]]],
    // of a mesh 2 x 4, the first axis, and the second
    [
      "the first axis",
      93,
      "0a180a0a0a06617869735f3010020a0a0a06617869735f3110041200",
      [
        [0, 4],
        [1, 5],
        [2, 6],
        [3, 7]
      ]
    ],
    [
      "the second axis",
      93,
      "0a180a0a0a06617869735f3010020a0a0a06617869735f31100412020801",
      [
        [0, 1, 2, 3],
        [4, 5, 6, 7]
      ]
    ]
  ] as const)("%s", (_, field, hex, expected) => {
    expect(groupsOf(withField([field, hex]))).toEqual(expected)
  })

  it("a part of an axis, a mesh whose devices stand otherwise, pairs, and none", () => {
    // an axis of 8 = 2 x 2 x 2, of which the middle part: {1: 0, 2: {1: 2, 2: 2}}; d = 4 a + 2 b + c, b exchanges
    const middle = "0a040a02100812061204080210" + "02"
    expect(groupsOf(withField([93, middle]))).toEqual([
      [0, 2],
      [1, 3],
      [4, 6],
      [5, 7]
    ])
    // an axis of 2 whose devices are 5 and 3
    expect(groupsOf(withField([93, "0a080a02100212020503" + "1200"]))).toEqual([[5, 3]])
    expect(groupsOf(withField([52, "08011002"], [52, ""]))).toEqual([
      [1, 2],
      [0, 0]
    ])
    expect(groupsOf(withField([49, "0a020001"]))).toEqual([[0, 1]])
    expect(groupsOf(withField())).toEqual([])
  })

  it("bytes of exchanges that leave a host are counted apart; who does not say with whom exchanges with all", () => {
    const collective = (opcode: string, groups: Instruction["groups"]): Instruction => ({
      name: opcode,
      opcode,
      shape: { element: "f32", dims: [10], parts: [] },
      operands: [],
      calls: [],
      target: "",
      config: "",
      said: new Map(),
      contracted: [],
      groups
    })
    const instructions = [
      collective("all-gather", [
        [0, 1],
        [2, 3]
      ]),
      collective("all-reduce", [
        [0, 2],
        [1, 3]
      ]),
      collective("all-reduce", [])
    ]
    const module: HloModule = { name: "m", entry: { name: "main", instructions }, overwritten: [] }
    expect(accountOf(module, 2)).toMatchObject({
      collectives: { "all-gather": 40, "all-reduce": 80 },
      betweenHosts: { "all-reduce": 80 }
    })
    expect(accountOf(module).betweenHosts).toEqual({})
  })
})
