import type { Kinds } from "../../plugins/typescript/kinds.ts";
import type { Skycap } from "../../plugins/typescript/skycap.ts";
import type { PrismaClient } from "./generated/client.ts";

export async function confirm(prisma: PrismaClient, skycap: Skycap<Kinds>, id: string): Promise<string> {
  return await prisma.$transaction(async (tx) => {
    const booking = await tx.booking.update({ where: { id }, data: { status: "CONFIRMED" } });
    const { jobId } = await skycap.enqueueTx(tx, "send-payment-receipt", { bookingId: id, userId: booking.userId });
    return jobId;
  });
}
