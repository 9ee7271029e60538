/** Writes captures for tests: UDP payloads in a pcap file of raw IPv4 packets. */

const LINKTYPE_RAW = 101;
const IP_BYTES = 20;
const UDP_BYTES = 8;

/** One UDP payload. */
export interface Packet {
  readonly payload: Uint8Array;
  readonly sourcePort?: number;
  readonly port: number;
  /** Bytes that the capture kept of the payload; all by default. */
  readonly kept?: number;
}

/** @returns the bytes of a pcap file. */
export function pcapFile(packets: readonly Packet[]): Uint8Array {
  const parts = [globalHeader()];
  packets.forEach((packet, i) => parts.push(record(packet, i)));
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function globalHeader(): Uint8Array {
  const view = new DataView(new ArrayBuffer(24));
  view.setUint32(0, 0xa1b2c3d4, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, 1 << 18, true);
  view.setUint32(20, LINKTYPE_RAW, true);
  return new Uint8Array(view.buffer);
}

function record(packet: Packet, second: number): Uint8Array {
  const { payload, port, sourcePort = 40000 } = packet;
  const length = IP_BYTES + UDP_BYTES + payload.length;
  const kept = IP_BYTES + UDP_BYTES + (packet.kept ?? payload.length);
  const bytes = new Uint8Array(16 + length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, second, true);
  view.setUint32(8, kept, true);
  view.setUint32(12, length, true);
  const ip = 16;
  view.setUint8(ip, 0x45);
  view.setUint16(ip + 2, length);
  view.setUint8(ip + 8, 8);
  view.setUint8(ip + 9, 17);
  bytes.set([192, 168, 86, 5, 239, 1, 2, 3], ip + 12);
  const udp = ip + IP_BYTES;
  view.setUint16(udp, sourcePort);
  view.setUint16(udp + 2, port);
  view.setUint16(udp + 4, UDP_BYTES + payload.length);
  bytes.set(payload, udp + UDP_BYTES);
  return bytes.subarray(0, 16 + kept);
}
