-- Wireshark dissector of the RCM protocol, wire version 1 (docs/protocol.md).
--
--   tshark   -X lua_script:tools/wireshark/rcm.lua ...
--   wireshark -X lua_script:tools/wireshark/rcm.lua
--
-- or copy it to the folder "Personal Lua Plugins" (Help > About Wireshark > Folders).
--
-- Datagrams are found by their magic on any UDP port; ports can also be fixed in the preferences of the protocol.
-- Several datagrams joined in one UDP payload (segmentation offload, as a capture on the sending machine shows it)
-- are shown one behind the other. The layouts below are compared with the document and with the library's code
-- by tests/protocol_document_test.ts.

local rcm = Proto("rcm", "Reliable Consistent Multicast")

local MAGIC = 0x4d52
local VERSION = 1
local HEADER_BYTES = 32
local TRAILER_BYTES = 32
local PAD_LENGTH = 0xffffffff

local types = {
  [1] = "DATA",
  [2] = "FRAGMENT",
  [3] = "SYN",
  [4] = "SYN_REPLY",
  [5] = "CONFIRM",
  [6] = "HEARTBEAT",
  [7] = "ACK",
  [8] = "NAK",
  [9] = "RST",
  [10] = "FILL",
  [32] = "SQN",
  [33] = "SQN_ACK",
  [34] = "SQN_NAK",
  [35] = "COMMIT",
  [36] = "PREPARE",
  [37] = "PROMISE",
  [38] = "REFUSE",
  [39] = "JOIN",
  [40] = "JOIN_REPLY",
  [41] = "PULL",
  [42] = "FILL",
  [43] = "STREAM_ASK",
  [44] = "STREAM",
  [45] = "TX_ACKED",
}

local rst_reasons = {
  [1] = "unknown_session",
  [2] = "closed",
  [3] = "disconnected",
}

local fill_reasons = {
  [1] = "unused",
  [2] = "gone",
}

local flags = {
  [0] = "tier",
  [1] = "ack_request",
  [2] = "sealed",
  [3] = "repair",
  [4] = "handshake",
  [5] = "mandatory",
  [6] = "fresh",
}

-- { field, offset, bytes, how it is shown, label }
local layouts = {
  Header = {
    { "magic", 0, 2, "hex", "Magic" },
    { "version", 2, 1, "dec", "Version" },
    { "type", 3, 1, "type", "Type" },
    { "length", 4, 2, "dec", "Length" },
    { "cluster", 6, 2, "dec", "Cluster" },
    { "check", 8, 4, "hex", "Check (CRC32C)" },
    { "source", 12, 2, "dec", "Source (sender of the stream)" },
    { "transport", 14, 2, "dec", "Transport" },
    { "connection", 16, 7, "dec", "Connection" },
    { "flags", 23, 1, "flags", "Flags" },
    { "number", 24, 8, "dec", "Number" },
  },
  MessageHeader = {
    { "length", 0, 4, "dec", "Length" },
    { "msg_arg", 4, 2, "dec", "Message argument" },
    { "reserved", 6, 2, "hex", "Reserved" },
  },
  FragmentHeader = {
    { "message_length", 0, 4, "dec", "Length of the message" },
    { "fragment_no", 4, 4, "dec", "Fragment" },
    { "fragment_bytes", 8, 2, "dec", "Bytes of a full fragment" },
    { "msg_arg", 10, 2, "dec", "Message argument" },
    { "reserved", 12, 4, "hex", "Reserved" },
  },
  Syn = {
    { "first", 0, 8, "dec", "First number that can be repaired" },
    { "join_at", 8, 8, "dec", "Receivers without a position begin at" },
    { "epoch.number", 16, 8, "dec", "Epoch, number" },
    { "epoch.id", 24, 8, "dec", "Epoch, id" },
    { "repair_ip", 32, 4, "ip", "Repair address" },
    { "repair_port", 36, 2, "dec", "Repair port" },
    { "tx_arg", 38, 2, "dec", "Sender's argument" },
    { "fragment_bytes", 40, 2, "dec", "Bytes of a full fragment" },
    { "group_size", 42, 2, "dec", "Connected receivers" },
    { "window_datagrams", 44, 4, "dec", "Window in datagrams" },
    { "name_len", 48, 2, "dec", "Bytes of the name" },
    { "pad", 50, 6, "bytes", "Padding" },
    { "name", 56, 64, "name", "Name of the sender's context" },
  },
  SynReply = {
    { "receiver_token", 0, 8, "hex", "Receiver's token" },
    { "instance", 8, 8, "hex", "Instance of the receiver" },
    { "receiver", 16, 2, "dec", "Receiver" },
    { "has_position", 18, 2, "dec", "Has a position" },
    { "frag", 20, 4, "dec", "Fragment of the position" },
    { "name_len", 24, 2, "dec", "Bytes of the name" },
    { "pad", 26, 6, "bytes", "Padding" },
    { "name", 32, 64, "name", "Name of the receiver's context" },
  },
  Confirm = {
    { "receiver_token", 0, 8, "hex", "Receiver's token" },
    { "session_token", 8, 8, "hex", "Session token" },
    { "stream_token", 16, 8, "hex", "Stream token" },
    { "epoch.number", 24, 8, "dec", "Epoch, number" },
    { "epoch.id", 32, 8, "dec", "Epoch, id" },
    { "first", 40, 8, "dec", "First number that can be repaired" },
    { "announced", 48, 8, "dec", "Announced number" },
    { "connection_first", 56, 8, "dec", "First number of the connection" },
    { "receiver", 64, 2, "dec", "Receiver" },
    { "tx_arg", 66, 2, "dec", "Sender's argument" },
    { "fragment_bytes", 68, 2, "dec", "Bytes of a full fragment" },
    { "group_size", 70, 2, "dec", "Connected receivers" },
    { "window_datagrams", 72, 4, "dec", "Window in datagrams" },
    { "pad", 76, 4, "bytes", "Padding" },
  },
  Heartbeat = {
    { "stream_token", 0, 8, "hex", "Stream token" },
    { "epoch.number", 8, 8, "dec", "Epoch, number" },
    { "epoch.id", 16, 8, "dec", "Epoch, id" },
    { "first", 24, 8, "dec", "First number that can be repaired" },
    { "frag", 32, 4, "dec", "Fragment of the announced position" },
    { "group_size", 36, 2, "dec", "Connected receivers" },
    { "pad", 38, 2, "bytes", "Padding" },
  },
  Ack = {
    { "session_token", 0, 8, "hex", "Session token" },
    { "highest", 8, 8, "dec", "Highest number heard of" },
    { "frag", 16, 4, "dec", "Fragment of the position" },
    { "receiver", 20, 2, "dec", "Receiver" },
    { "no_memory", 22, 2, "dec", "Memory used up" },
  },
  Nak = {
    { "session_token", 0, 8, "hex", "Session token" },
    { "receiver", 8, 2, "dec", "Receiver" },
    { "count", 10, 2, "dec", "Ranges" },
    { "attempt", 12, 4, "dec", "Attempt" },
  },
  Range = {
    { "start_msg", 0, 8, "dec", "From message" },
    { "end_msg", 8, 8, "dec", "To message (exclusive)" },
    { "start_frag", 16, 4, "dec", "From fragment" },
    { "end_frag", 20, 4, "dec", "To fragment (exclusive)" },
  },
  Rst = {
    { "token", 0, 8, "hex", "Token" },
    { "reason", 8, 4, "rst", "Reason" },
    { "receiver", 12, 2, "dec", "Receiver" },
    { "pad", 14, 2, "bytes", "Padding" },
  },
  Fill = {
    { "stream_token", 0, 8, "hex", "Stream token" },
    { "end", 8, 8, "dec", "End (exclusive)" },
    { "reason", 16, 4, "fill", "Reason" },
    { "pad", 20, 4, "bytes", "Padding" },
  },
  SealTrailer = {
    { "instance", 0, 8, "hex", "Instance" },
    { "counter", 8, 8, "dec", "Counter" },
    { "tag", 16, 16, "bytes", "Tag" },
  },
  TierSaid = {
    { "epoch.number", 0, 8, "dec", "Epoch, number" },
    { "epoch.id", 8, 8, "dec", "Epoch, id" },
    { "to", 16, 2, "dec", "For (0: all)" },
    { "reserved", 18, 2, "hex", "Reserved" },
    { "reserved2", 20, 4, "hex", "Reserved" },
  },
  TierSqn = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "first", 24, 8, "dec", "First sqn of the epoch" },
    { "committed", 32, 8, "dec", "Committed (exclusive)" },
    { "next", 40, 8, "dec", "Assigned (exclusive)" },
    { "count", 48, 4, "dec", "Count" },
    { "reserved", 52, 4, "hex", "Reserved" },
  },
  TierEntry = {
    { "connection", 0, 8, "dec", "Connection of the stream" },
    { "msg_no", 8, 8, "dec", "Message number" },
    { "time_ms", 16, 8, "dec", "Time, ms since 1970" },
    { "length", 24, 4, "dec", "Length" },
    { "source", 28, 2, "dec", "Source" },
    { "transport", 30, 2, "dec", "Transport" },
    { "tx_arg", 32, 2, "dec", "Transmitter's argument" },
    { "msg_arg", 34, 2, "dec", "Message argument" },
    { "is_tier", 36, 2, "dec", "Sender is a tier" },
    { "reserved", 38, 2, "hex", "Reserved" },
  },
  TierCommit = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "first", 24, 8, "dec", "First sqn of the epoch" },
    { "committed", 32, 8, "dec", "Committed (exclusive)" },
  },
  TierSqnAck = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "is_intact", 24, 4, "dec", "Log is intact" },
    { "reserved", 28, 4, "hex", "Reserved" },
    { "handed", 32, 8, "dec", "Given to the program (exclusive)" },
  },
  TierSqnNak = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "end", 24, 8, "dec", "End (exclusive)" },
  },
  TierPrepare = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "config_hash", 24, 8, "hex", "Hash of the configuration" },
  },
  TierPromise = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "adopted.number", 24, 8, "dec", "Adopted epoch, number" },
    { "adopted.id", 32, 8, "dec", "Adopted epoch, id" },
    { "config_hash", 40, 8, "hex", "Hash of the configuration" },
    { "is_intact", 48, 4, "dec", "Log is intact" },
    { "reserved", 52, 4, "hex", "Reserved" },
  },
  TierRefuse = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "promised.number", 24, 8, "dec", "Promised epoch, number" },
    { "promised.id", 32, 8, "dec", "Promised epoch, id" },
  },
  TierJoin = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "config_hash", 24, 8, "hex", "Hash of the configuration" },
    { "era_from", 32, 4, "dec", "First era" },
    { "is_observer", 36, 4, "dec", "Observer" },
    { "question", 40, 4, "dec", "Question" },
    { "reserved", 44, 4, "hex", "Reserved" },
  },
  TierJoinReply = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "nonce", 24, 8, "hex", "Nonce of who asked" },
    { "first", 32, 8, "dec", "First sqn of the epoch" },
    { "committed", 40, 8, "dec", "Committed (exclusive)" },
    { "config_hash", 48, 8, "hex", "Hash of the configuration" },
    { "era_total", 56, 4, "dec", "Eras in all" },
    { "era_from", 60, 4, "dec", "First era" },
    { "count", 64, 4, "dec", "Count" },
    { "is_leader", 68, 4, "dec", "Leader" },
    { "question", 72, 4, "dec", "Question" },
    { "reserved", 76, 4, "hex", "Reserved" },
  },
  TierEra = {
    { "epoch.number", 0, 8, "dec", "Epoch, number" },
    { "epoch.id", 8, 8, "dec", "Epoch, id" },
    { "first_sqn", 16, 8, "dec", "From sqn" },
  },
  TierPull = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "offset", 24, 4, "dec", "Offset in the message" },
    { "request", 28, 4, "dec", "Request" },
    { "allowed_bytes", 32, 8, "dec", "Allowed bytes" },
  },
  TierFill = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "request", 24, 4, "dec", "Request" },
    { "count", 28, 4, "dec", "Count" },
  },
  TierPiece = {
    { "entry", 0, 40, "in TierEntry", "Entry" },
    { "offset", 40, 4, "dec", "Offset in the message" },
    { "bytes", 44, 4, "dec", "Bytes" },
  },
  TierStreamAsk = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "entry", 24, 40, "in TierEntry", "Entry" },
  },
  TierStreamTold = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "entry", 24, 256, "in StreamEntry", "Entry" },
  },
  TierTxAcked = {
    { "said", 0, 24, "in TierSaid", "Said" },
    { "count", 24, 4, "dec", "Count" },
    { "reserved", 28, 4, "hex", "Reserved" },
  },
  TierTxPosition = {
    { "transport", 0, 8, "dec", "Transport" },
    { "acked", 8, 8, "dec", "Acknowledged (exclusive)" },
  },
  StreamEntry = {
    { "check", 0, 4, "hex", "Check" },
    { "id", 4, 4, "dec", "Id" },
    { "connection", 8, 8, "dec", "Connection of the stream" },
    { "first_sqn", 16, 8, "dec", "From sqn" },
    { "source", 24, 2, "dec", "Source" },
    { "transport", 26, 2, "dec", "Transport" },
    { "partition", 28, 2, "dec", "Partition" },
    { "tx_arg", 30, 2, "dec", "Transmitter's argument" },
    { "is_tier", 32, 1, "dec", "Sender is a tier" },
    { "name_bytes", 33, 1, "dec", "Bytes of the name" },
    { "topic_bytes", 34, 1, "dec", "Bytes of the topic" },
    { "pad", 35, 1, "dec", "Padding" },
    { "reserved", 36, 4, "hex", "Reserved" },
    { "name", 40, 64, "name", "Name of the sender's context" },
    { "topic", 104, 128, "name", "Topic" },
    { "zeros", 232, 24, "bytes", "Zeros" },
  },
}

-- By type: layout of its fixed body, and how its fields are called in filters ("rcm.ack.frag").
local bodies = {
  [1] = { layout = "MessageHeader", prefix = "message" },
  [2] = { layout = "FragmentHeader", prefix = "fragment" },
  [3] = { layout = "Syn", prefix = "syn" },
  [4] = { layout = "SynReply", prefix = "syn_reply" },
  [5] = { layout = "Confirm", prefix = "confirm" },
  [6] = { layout = "Heartbeat", prefix = "heartbeat" },
  [7] = { layout = "Ack", prefix = "ack" },
  [8] = { layout = "Nak", prefix = "nak" },
  [9] = { layout = "Rst", prefix = "rst" },
  [10] = { layout = "Fill", prefix = "fill" },
  [32] = { layout = "TierSqn", prefix = "sqn" },
  [33] = { layout = "TierSqnAck", prefix = "sqn_ack" },
  [34] = { layout = "TierSqnNak", prefix = "sqn_nak" },
  [35] = { layout = "TierCommit", prefix = "commit" },
  [36] = { layout = "TierPrepare", prefix = "prepare" },
  [37] = { layout = "TierPromise", prefix = "promise" },
  [38] = { layout = "TierRefuse", prefix = "refuse" },
  [39] = { layout = "TierJoin", prefix = "join" },
  [40] = { layout = "TierJoinReply", prefix = "join_reply" },
  [41] = { layout = "TierPull", prefix = "pull" },
  [42] = { layout = "TierFill", prefix = "tier_fill" },
  [43] = { layout = "TierStreamAsk", prefix = "stream_ask" },
  [44] = { layout = "TierStreamTold", prefix = "stream" },
  [45] = { layout = "TierTxAcked", prefix = "tx_acked" },
}
local prefixes = {
  Header = "",
  Range = "nak.range",
  SealTrailer = "seal",
  TierSaid = "said",
  TierEntry = "entry",
  TierEra = "era",
  TierPiece = "piece",
  TierTxPosition = "position",
  StreamEntry = "told",
}
for _, body in pairs(bodies) do prefixes[body.layout] = body.prefix end

------------------------------------------------------------------ fields

local integer_fields = {
  [1] = ProtoField.uint8,
  [2] = ProtoField.uint16,
  [4] = ProtoField.uint32,
  [7] = ProtoField.uint64,
  [8] = ProtoField.uint64,
}
local reasons = { type = types, rst = rst_reasons, fill = fill_reasons }

local function make_field(abbreviation, entry)
  local bytes, kind, label = entry[3], entry[4], entry[5]
  if kind == "bytes" then return ProtoField.bytes(abbreviation, label) end
  if kind == "ip" then return ProtoField.ipv4(abbreviation, label) end
  if kind == "name" then return ProtoField.string(abbreviation, label, base.UNICODE) end
  if kind == "hex" or kind == "flags" then
    return integer_fields[bytes](abbreviation, label, base.HEX)
  end
  return integer_fields[bytes](abbreviation, label, base.DEC, reasons[kind])
end

local all_fields = {}
local fields = {}
for layout, entries in pairs(layouts) do
  local prefix = prefixes[layout]
  fields[layout] = {}
  for _, entry in ipairs(entries) do
    -- A layout inside of another one has its own fields.
    if entry[4]:sub(1, 3) == "in " then goto continue end
    local abbreviation = "rcm." .. (prefix == "" and "" or prefix .. ".") .. entry[1]
    local field = make_field(abbreviation, entry)
    fields[layout][entry[1]] = field
    all_fields[#all_fields + 1] = field
    ::continue::
  end
end

local flag_fields = {}
for bit_no, name in pairs(flags) do
  flag_fields[bit_no] = ProtoField.bool("rcm.flags." .. name, name, 8, nil, 2 ^ bit_no)
  all_fields[#all_fields + 1] = flag_fields[bit_no]
end

local extra = {
  check_ok = ProtoField.bool("rcm.check.ok", "Check is right"),
  message_number = ProtoField.uint64("rcm.message.number", "Number"),
  message_payload = ProtoField.bytes("rcm.message.payload", "Payload"),
  message_count = ProtoField.uint32("rcm.message.count", "Messages"),
  fragment_count = ProtoField.uint32("rcm.fragment.count", "Fragments of the message"),
  fragment_offset = ProtoField.uint32("rcm.fragment.offset", "Offset in the message"),
  fragment_payload = ProtoField.bytes("rcm.fragment.payload", "Payload"),
  padding = ProtoField.bytes("rcm.padding", "Padding"),
  piece_payload = ProtoField.bytes("rcm.piece.payload", "Payload"),
  sealed_body = ProtoField.bytes("rcm.seal.body", "Sealed body"),
}
for _, field in pairs(extra) do all_fields[#all_fields + 1] = field end
rcm.fields = all_fields

local experts = {
  bad_check = ProtoExpert.new("rcm.expert.check", "Check is wrong", expert.group.CHECKSUM, expert.severity.ERROR),
  malformed = ProtoExpert.new("rcm.expert.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR),
  cut = ProtoExpert.new("rcm.expert.cut", "Cut by the capture", expert.group.UNDECODED, expert.severity.WARN),
  unknown = ProtoExpert.new("rcm.expert.unknown", "Unknown type", expert.group.UNDECODED, expert.severity.WARN),
  version = ProtoExpert.new("rcm.expert.version", "Not of this version", expert.group.UNDECODED, expert.severity.WARN),
  nak = ProtoExpert.new("rcm.expert.nak", "Messages are missing", expert.group.SEQUENCE, expert.severity.NOTE),
  repair = ProtoExpert.new("rcm.expert.repair", "Sent again", expert.group.SEQUENCE, expert.severity.NOTE),
  gone = ProtoExpert.new("rcm.expert.gone", "Not kept any more: a loss", expert.group.SEQUENCE, expert.severity.WARN),
  memory = ProtoExpert.new("rcm.expert.memory", "The receiver's memory is used up", expert.group.SEQUENCE, expert.severity.WARN),
  entries = ProtoExpert.new("rcm.expert.entries", "Entries are missing", expert.group.SEQUENCE, expert.severity.NOTE),
  refused = ProtoExpert.new("rcm.expert.refused", "An epoch is refused", expert.group.SEQUENCE, expert.severity.NOTE),
  rst = ProtoExpert.new("rcm.expert.rst", "Session ended", expert.group.SEQUENCE, expert.severity.NOTE),
}
local expert_list = {}
for _, e in pairs(experts) do expert_list[#expert_list + 1] = e end
rcm.experts = expert_list

rcm.prefs.ports = Pref.range("UDP ports", "", "Ports whose payloads are always taken for RCM, for example 5000-5010", 65535)
rcm.prefs.heuristic = Pref.bool("Find by magic", true, "Take every UDP payload that begins like a datagram of RCM for one")
rcm.prefs.verify = Pref.bool("Verify checks", true, "Compute the CRC32C of every datagram that is not sealed")

------------------------------------------------------------------ CRC32C

local band, bxor, rshift = bit.band, bit.bxor, bit.rshift
local crc_table = {}
for i = 0, 255 do
  local crc = i
  for _ = 1, 8 do
    if band(crc, 1) == 1 then crc = bxor(rshift(crc, 1), 0x82f63b78) else crc = rshift(crc, 1) end
  end
  crc_table[i] = crc
end

-- CRC32C of a datagram with its check field (bytes 8 to 11) taken as 0.
local function crc32c(raw)
  local crc = 0xffffffff
  for i = 1, #raw do
    local byte = raw:byte(i)
    if i >= 9 and i <= 12 then byte = 0 end
    crc = bxor(rshift(crc, 8), crc_table[band(bxor(crc, byte), 0xff)])
  end
  return bxor(crc, 0xffffffff) % 0x100000000
end

------------------------------------------------------------------ bodies

-- Adds all fields of a layout at `at` of `tvb`. The tree item of the last field.
local function add_fields(tree, tvb, at, layout)
  for _, entry in ipairs(layouts[layout]) do
    local name, bytes, kind = entry[1], entry[3], entry[4]
    local range = tvb(at + entry[2], bytes)
    local field = fields[layout][name]
    if kind:sub(1, 3) == "in " then
      add_fields(tree, tvb, at + entry[2], kind:sub(4))
    elseif kind == "name" then
      tree:add(field, range, range:stringz(ENC_UTF_8))
    elseif kind == "bytes" or kind == "ip" then
      tree:add(field, range)
    else
      tree:add_le(field, range)
    end
  end
end

local function layout_bytes(layout)
  local last = layouts[layout][#layouts[layout]]
  return last[2] + last[3]
end

local function align8(n) return n + (-n) % 8 end

local function malformed(tree, text)
  tree:add_proto_expert_info(experts.malformed, text)
end

local function position(msg, frag)
  if frag == 0 then return tostring(msg) end
  return tostring(msg) .. "/" .. frag
end

local function plural(n, word)
  return n .. " " .. word .. (n == 1 and "" or "s")
end

-- Each gives the text for the column Info.
local dissect_body = {}

dissect_body[1] = function(tree, tvb, first, stop, number)
  local at, count = first, 0
  while at < stop do
    if stop - at < 8 then
      malformed(tree, "Rest of the body is shorter than a message header")
      break
    end
    local length = tvb(at, 4):le_uint()
    if length == PAD_LENGTH then
      tree:add(extra.padding, tvb(at, stop - at))
      break
    end
    if length > stop - at - 8 then
      malformed(tree, "Message is longer than the datagram")
      break
    end
    local n = number + count
    local span = math.min(stop, at + align8(8 + length)) - at
    local item = tree:add(tvb(at, span), "Message " .. tostring(n) .. ", " .. plural(length, "byte"))
    item:add(extra.message_number, n):set_generated()
    add_fields(item, tvb, at, "MessageHeader")
    if length > 0 then item:add(extra.message_payload, tvb(at + 8, length)) end
    at = at + span
    count = count + 1
  end
  if count == 0 then malformed(tree, "DATA without a message") end
  tree:add(extra.message_count, count):set_generated()
  return "[" .. tostring(number) .. ", " .. tostring(number + count) .. ") " .. plural(count, "message")
end

dissect_body[2] = function(tree, tvb, first, stop, number)
  add_fields(tree, tvb, first, "FragmentHeader")
  local length = tvb(first, 4):le_uint()
  local fragment = tvb(first + 4, 4):le_uint()
  local size = tvb(first + 8, 2):le_uint()
  local text = position(number, fragment)
  if length == 0 or length > 0x40000000 or size < 256 then
    malformed(tree, "Sizes of the fragment are impossible")
    return text
  end
  local count = math.floor((length + size - 1) / size)
  tree:add(extra.fragment_count, count):set_generated()
  if fragment >= count then
    malformed(tree, "Fragment number is not below the count")
    return text
  end
  local offset = fragment * size
  local bytes = math.min(size, length - offset)
  local start = first + layout_bytes("FragmentHeader")
  if start + bytes > stop then
    malformed(tree, "Fragment is longer than the datagram")
    return text
  end
  tree:add(extra.fragment_offset, offset):set_generated()
  tree:add(extra.fragment_payload, tvb(start, bytes))
  if start + bytes < stop then tree:add(extra.padding, tvb(start + bytes, stop - start - bytes)) end
  return text .. " of " .. plural(count, "fragment") .. ", " .. plural(length, "byte")
end

dissect_body[3] = function(tree, tvb, first, _, number)
  add_fields(tree, tvb, first, "Syn")
  if tvb(first, 8):le_uint64() > tvb(first + 8, 8):le_uint64() then malformed(tree, "first is above join_at") end
  if tvb(first, 8):le_uint64() > number then malformed(tree, "first is above the announced number") end
  return tvb(first + 56, 64):stringz(ENC_UTF_8) .. ", first " .. tostring(tvb(first, 8):le_uint64()) ..
    ", join at " .. tostring(tvb(first + 8, 8):le_uint64()) .. ", announced " .. tostring(number)
end

dissect_body[4] = function(tree, tvb, first, _, number)
  add_fields(tree, tvb, first, "SynReply")
  local has = tvb(first + 18, 2):le_uint() == 1
  local where = has and "at " .. position(number, tvb(first + 20, 4):le_uint()) or "without position"
  return tvb(first + 32, 64):stringz(ENC_UTF_8) .. " (" .. tvb(first + 16, 2):le_uint() .. ") " .. where
end

dissect_body[5] = function(tree, tvb, first, _, number)
  add_fields(tree, tvb, first, "Confirm")
  return "receiver " .. tvb(first + 64, 2):le_uint() .. " begins at " .. tostring(number) .. ", announced " ..
    tostring(tvb(first + 48, 8):le_uint64())
end

dissect_body[6] = function(tree, tvb, first, _, number)
  add_fields(tree, tvb, first, "Heartbeat")
  return "announced " .. position(number, tvb(first + 32, 4):le_uint())
end

dissect_body[7] = function(tree, tvb, first, _, number)
  add_fields(tree, tvb, first, "Ack")
  local text = "receiver " .. tvb(first + 20, 2):le_uint() .. " has all below " ..
    position(number, tvb(first + 16, 4):le_uint())
  if tvb(first + 22, 2):le_uint() == 1 then
    tree:add_proto_expert_info(experts.memory)
    text = text .. ", no memory"
  end
  return text
end

dissect_body[8] = function(tree, tvb, first, stop)
  add_fields(tree, tvb, first, "Nak")
  local count = tvb(first + 10, 2):le_uint()
  local size = layout_bytes("Range")
  local at = first + layout_bytes("Nak")
  local texts, last_msg, last_frag = {}, UInt64(0), 0
  for i = 1, count do
    if at + size > stop then
      malformed(tree, "More ranges than the datagram holds")
      break
    end
    local start_msg, end_msg = tvb(at, 8):le_uint64(), tvb(at + 8, 8):le_uint64()
    local start_frag, end_frag = tvb(at + 16, 4):le_uint(), tvb(at + 20, 4):le_uint()
    local text = "[" .. position(start_msg, start_frag) .. ", " .. position(end_msg, end_frag) .. ")"
    local item = tree:add(tvb(at, size), "Range " .. i .. ": " .. text)
    add_fields(item, tvb, at, "Range")
    local after = start_msg > last_msg or (start_msg == last_msg and start_frag >= last_frag)
    local empty = end_msg < start_msg or (end_msg == start_msg and end_frag <= start_frag)
    if not after or empty then malformed(item, "Ranges must be ascending and not empty") end
    last_msg, last_frag = end_msg, end_frag
    texts[i] = text
    at = at + size
  end
  if count == 0 then malformed(tree, "NAK without a range") end
  tree:add_proto_expert_info(experts.nak, "Missing: " .. table.concat(texts, " "))
  return "receiver " .. tvb(first + 8, 2):le_uint() .. " misses " .. table.concat(texts, " ") ..
    ", attempt " .. tvb(first + 12, 4):le_uint()
end

dissect_body[9] = function(tree, tvb, first)
  add_fields(tree, tvb, first, "Rst")
  local reason = tvb(first + 8, 4):le_uint()
  local text = rst_reasons[reason] or "reason " .. reason
  if not rst_reasons[reason] then malformed(tree, "Unknown reason") end
  tree:add_proto_expert_info(experts.rst, "Session ended: " .. text)
  return text
end

dissect_body[10] = function(tree, tvb, first, _, number)
  add_fields(tree, tvb, first, "Fill")
  local stop = tvb(first + 8, 8):le_uint64()
  local reason = tvb(first + 16, 4):le_uint()
  if not fill_reasons[reason] then malformed(tree, "Unknown reason") end
  if stop <= number then malformed(tree, "The range is empty") end
  if reason == 2 then tree:add_proto_expert_info(experts.gone) end
  return "[" .. tostring(number) .. ", " .. tostring(stop) .. ") " .. (fill_reasons[reason] or reason)
end

------------------------------------------------------------------ bodies of the tier

local function range_text(first, stop) return "[" .. tostring(first) .. ", " .. tostring(stop) .. ")" end

local function epoch_text(tvb, first)
  return "epoch " .. tostring(tvb(first, 8):le_uint64())
end

local function told_to(tvb, first)
  local to = tvb(first + 16, 2):le_uint()
  return to == 0 and "" or ", to " .. to
end

-- Items of one layout behind a body. How many there are.
local function add_items(tree, tvb, at, stop, layout, count, label)
  local bytes = layout_bytes(layout)
  if count * bytes ~= stop - at then malformed(tree, "Count and length do not fit") end
  local n = 0
  while n < count and at + bytes <= stop do
    add_fields(tree:add(tvb(at, bytes), label(n, at)), tvb, at, layout)
    at = at + bytes
    n = n + 1
  end
  return n
end

local function entry_text(tvb, at)
  return tvb(at + 28, 2):le_uint() .. "." .. tvb(at + 30, 2):le_uint() .. " message " ..
    tostring(tvb(at + 8, 8):le_uint64()) .. ", " .. plural(tvb(at + 24, 4):le_uint(), "byte")
end

-- Bodies of one layout and nothing behind; `text` makes what Info says of it.
local function fixed_body(kind, text)
  dissect_body[kind] = function(tree, tvb, first, _, number)
    add_fields(tree, tvb, first, bodies[kind].layout)
    return text(tvb, first, number, tree) .. ", " .. epoch_text(tvb, first) .. told_to(tvb, first)
  end
end

dissect_body[32] = function(tree, tvb, first, stop, number)
  add_fields(tree, tvb, first, "TierSqn")
  local count = tvb(first + 48, 4):le_uint()
  local committed, next_sqn = tvb(first + 32, 8):le_uint64(), tvb(first + 40, 8):le_uint64()
  if number + count > next_sqn or committed > next_sqn then malformed(tree, "Cursors are not in order") end
  add_items(tree, tvb, first + layout_bytes("TierSqn"), stop, "TierEntry", count, function(n, at)
    return "Sqn " .. tostring(number + n) .. ": " .. entry_text(tvb, at)
  end)
  return range_text(number, number + count) .. ", committed " .. tostring(committed) .. ", " ..
    epoch_text(tvb, first) .. told_to(tvb, first)
end

fixed_body(33, function(tvb, first, number)
  local is_intact = tvb(first + 24, 4):le_uint() ~= 0
  return "has " .. tostring(number) .. (is_intact and "" or ", blank")
end)

fixed_body(34, function(tvb, first, number, tree)
  local stop = tvb(first + 24, 8):le_uint64()
  if stop <= number then malformed(tree, "The range is empty") end
  tree:add_proto_expert_info(experts.entries)
  return range_text(number, stop)
end)

fixed_body(35, function(tvb, first, number, tree)
  local committed = tvb(first + 32, 8):le_uint64()
  if committed > number then malformed(tree, "Cursors are not in order") end
  return "assigned " .. tostring(number) .. ", committed " .. tostring(committed)
end)

fixed_body(36, function() return "asks for promises" end)

fixed_body(37, function(tvb, first, number)
  local is_intact = tvb(first + 48, 4):le_uint() ~= 0
  return "adopted " .. tostring(tvb(first + 24, 8):le_uint64()) .. ", has " .. tostring(number) ..
    (is_intact and "" or ", blank")
end)

fixed_body(38, function(tvb, first, _, tree)
  tree:add_proto_expert_info(experts.refused)
  return "promised " .. tostring(tvb(first + 24, 8):le_uint64())
end)

fixed_body(39, function(_, _, number) return "has " .. tostring(number) end)

dissect_body[40] = function(tree, tvb, first, stop, number)
  add_fields(tree, tvb, first, "TierJoinReply")
  local from, count = tvb(first + 60, 4):le_uint(), tvb(first + 64, 4):le_uint()
  add_items(tree, tvb, first + layout_bytes("TierJoinReply"), stop, "TierEra", count, function(n, at)
    return "Era " .. from + n .. ": from sqn " .. tostring(tvb(at + 16, 8):le_uint64())
  end)
  local is_leader = tvb(first + 68, 4):le_uint() ~= 0
  return (is_leader and "leader" or "source") .. " has " .. tostring(number) .. ", " .. plural(count, "era") .. ", " ..
    epoch_text(tvb, first) .. told_to(tvb, first)
end

fixed_body(41, function(tvb, first, number)
  return "from " .. position(number, tvb(first + 24, 4):le_uint()) .. ", request " .. tvb(first + 28, 4):le_uint() ..
    ", " .. tostring(tvb(first + 32, 8):le_uint64()) .. " bytes"
end)

dissect_body[42] = function(tree, tvb, first, stop, number)
  add_fields(tree, tvb, first, "TierFill")
  local request, count = tvb(first + 24, 4):le_uint(), tvb(first + 28, 4):le_uint()
  local at, n, sqn = first + layout_bytes("TierFill"), 0, number
  local head = layout_bytes("TierPiece")
  while at < stop do
    if stop - at < head then
      malformed(tree, "Rest of the body is shorter than a piece's head")
      break
    end
    local offset, bytes = tvb(at + 40, 4):le_uint(), tvb(at + 44, 4):le_uint()
    local length = tvb(at + 24, 4):le_uint()
    if bytes > stop - at - head or align8(bytes) > stop - at - head or offset + bytes > length then
      malformed(tree, "Piece is longer than the datagram, or than its message")
      break
    end
    local span = head + align8(bytes)
    local item = tree:add(tvb(at, span), "Sqn " .. tostring(sqn) .. ": " .. entry_text(tvb, at))
    add_fields(item, tvb, at, "TierPiece")
    if bytes > 0 then item:add(extra.piece_payload, tvb(at + head, bytes)) end
    if offset + bytes == length then sqn = sqn + 1 end
    at = at + span
    n = n + 1
  end
  if n ~= count or n == 0 then malformed(tree, "Count and pieces do not fit") end
  return "from " .. tostring(number) .. ", " .. plural(n, "piece") .. ", request " .. request .. ", " ..
    epoch_text(tvb, first) .. told_to(tvb, first)
end

fixed_body(43, function(tvb, first) return "of " .. entry_text(tvb, first + 24) end)

fixed_body(44, function(tvb, first)
  return tvb(first + 24 + 24, 2):le_uint() .. "." .. tvb(first + 24 + 26, 2):le_uint() .. " is " ..
    tvb(first + 24 + 40, 64):stringz(ENC_UTF_8)
end)

dissect_body[45] = function(tree, tvb, first, stop)
  add_fields(tree, tvb, first, "TierTxAcked")
  local count = tvb(first + 24, 4):le_uint()
  add_items(tree, tvb, first + layout_bytes("TierTxAcked"), stop, "TierTxPosition", count, function(_, at)
    return "Transport " .. tostring(tvb(at, 8):le_uint64()) .. ": " .. tostring(tvb(at + 8, 8):le_uint64())
  end)
  return plural(count, "position") .. ", " .. epoch_text(tvb, first)
end

------------------------------------------------------------------ one datagram

local function add_check(tree, tvb, at, length, is_sealed)
  local range = tvb(at + 8, 4)
  local check = range:le_uint()
  if is_sealed then
    if check ~= 0 then tree:add_proto_expert_info(experts.bad_check, "Sealed, but the check is not 0") end
    return
  end
  if not rcm.prefs.verify then return end
  local right = crc32c(tvb:raw(at, length))
  tree:add(extra.check_ok, range, check == right):set_generated()
  if check ~= right then
    tree:add_proto_expert_info(experts.bad_check, string.format("Check is 0x%08x, should be 0x%08x", check, right))
  end
end

local function add_header(tree, tvb, at)
  for _, entry in ipairs(layouts.Header) do
    local range = tvb(at + entry[2], entry[3])
    local item = tree:add_le(fields.Header[entry[1]], range)
    if entry[4] == "flags" then
      for bit_no = 0, 5 do item:add(flag_fields[bit_no], range) end
    end
  end
end

-- Dissects the datagram at `at`. Its length (or what is left, when that can't be trusted), and the text for Info.
local function dissect_one(tvb, at, tree)
  local left = tvb:len() - at
  if left < HEADER_BYTES then
    local item = tree:add(rcm, tvb(at), "RCM, " .. plural(left, "byte"))
    malformed(item, "Shorter than a header")
    return left, "malformed"
  end
  local kind = tvb(at + 3, 1):uint()
  local length = tvb(at + 4, 2):le_uint()
  local name = types[kind] or "type " .. kind
  local item = tree:add(rcm, tvb(at, math.min(length > 0 and length or left, left)), "RCM " .. name)
  add_header(item, tvb, at)
  if tvb(at, 2):le_uint() ~= MAGIC or tvb(at + 2, 1):uint() ~= VERSION then
    item:add_proto_expert_info(experts.version)
    return left, "not of version " .. VERSION
  end
  if length < HEADER_BYTES or length % 8 ~= 0 then
    malformed(item, "Length is impossible")
    return left, name .. " malformed"
  end
  if length > left then
    local is_cut = tvb:reported_len() - at >= length
    if is_cut then
      item:add_proto_expert_info(experts.cut)
    else
      malformed(item, "Length is more than what arrived")
    end
    return left, name .. (is_cut and " (cut)" or " malformed")
  end
  local flag_bits = tvb(at + 23, 1):uint()
  local is_sealed = band(flag_bits, 4) ~= 0
  add_check(item, tvb, at, length, is_sealed)
  local body = bodies[kind]
  if not body then
    item:add_proto_expert_info(experts.unknown)
    return length, name
  end
  local first = at + HEADER_BYTES
  local stop = at + length - (is_sealed and TRAILER_BYTES or 0)
  if stop - first < layout_bytes(body.layout) then
    malformed(item, "Shorter than the body of its type")
    return length, name .. " malformed"
  end
  local number = tvb(at + 24, 8):le_uint64()
  local info
  if is_sealed then
    item:add(extra.sealed_body, tvb(first, stop - first))
    local trailer = item:add(tvb(stop, TRAILER_BYTES), "Seal")
    add_fields(trailer, tvb, stop, "SealTrailer")
    info = tostring(number) .. ", sealed"
  else
    info = dissect_body[kind](item, tvb, first, stop, number)
  end
  local is_repair = band(flag_bits, 8) ~= 0 and (kind == 1 or kind == 2)
  if is_repair then
    item:add_proto_expert_info(experts.repair)
    info = info .. ", repair"
  end
  if band(flag_bits, 2) ~= 0 then info = info .. ", ACK wanted" end
  if band(flag_bits, 16) ~= 0 then info = info .. ", asks" end
  local source = tvb(at + 12, 2):le_uint()
  item:append_text(", source " .. source .. ", transport " .. tvb(at + 14, 2):le_uint() .. ", " .. info)
  return length, name .. " " .. info
end

function rcm.dissector(tvb, pinfo, tree)
  if tvb:len() == 0 then return 0 end
  pinfo.cols.protocol = "RCM"
  local at, count, texts = 0, 0, {}
  while at < tvb:len() do
    local length, text = dissect_one(tvb, at, tree)
    count = count + 1
    if count <= 3 then texts[count] = text end
    at = at + length
  end
  if count > 3 then texts[4] = "... " .. count .. " datagrams" end
  pinfo.cols.info = table.concat(texts, " | ")
  return tvb:len()
end

------------------------------------------------------------------ registration

local function heuristic(tvb, pinfo, tree)
  if not rcm.prefs.heuristic or tvb:len() < HEADER_BYTES then return false end
  if tvb(0, 2):le_uint() ~= MAGIC or tvb(2, 1):uint() ~= VERSION then return false end
  local length = tvb(4, 2):le_uint()
  if length < HEADER_BYTES or length % 8 ~= 0 or length > tvb:reported_len() then return false end
  rcm.dissector(tvb, pinfo, tree)
  return true
end
rcm:register_heuristic("udp", heuristic)

local udp_ports = DissectorTable.get("udp.port")
local registered = ""
function rcm.prefs_changed()
  local wanted = tostring(rcm.prefs.ports)
  if wanted == registered then return end
  if registered ~= "" then udp_ports:remove(registered, rcm) end
  if wanted ~= "" then udp_ports:add(wanted, rcm) end
  registered = wanted
end
