-- The backend's tables as its ORM makes them, for the demo and the tests: skycap itself never creates, alters or drops
-- them. Every statement may run again. A type has no IF NOT EXISTS, hence the blocks.

DO $$ BEGIN
    CREATE TYPE "MembershipType" AS ENUM ('BASIC', 'PREMIUM', 'VIP', 'ENTERPRISE');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "BookingType" AS ENUM (
        'HOTEL', 'FLIGHT', 'ACTIVITY', 'TOUR', 'CAR_RENTAL', 'RESTAURANT', 'PACKAGE', 'AIRPORT_TRANSFER');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "BookingStatus" AS ENUM ('PENDING', 'CONFIRMED', 'CANCELLED', 'COMPLETED', 'REFUNDED');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "PaymentMethod" AS ENUM (
        'CREDIT_CARD', 'DEBIT_CARD', 'BANK_TRANSFER', 'PAYPAL', 'BITCOIN', 'ETHEREUM', 'USDT', 'LOYALTY_POINTS');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "PaymentStatus" AS ENUM (
        'PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'REFUNDED', 'PARTIALLY_REFUNDED');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "NotificationType" AS ENUM (
        'BOOKING_CONFIRMATION', 'BOOKING_REMINDER', 'PAYMENT_SUCCESS', 'PAYMENT_FAILED', 'REVIEW_REQUEST', 'PROMOTION',
        'AI_RECOMMENDATION', 'SYSTEM_UPDATE', 'PRICE_DROP', 'PRICE_ALERT');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "PriceAlertStatus" AS ENUM ('ACTIVE', 'TRIGGERED', 'EXPIRED', 'DISABLED');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "HotelType" AS ENUM (
        'RESORT', 'BOUTIQUE', 'CITY_HOTEL', 'BEACH_HOTEL', 'APARTMENT', 'VILLA', 'HOSTEL', 'GUESTHOUSE');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

DO $$ BEGIN
    CREATE TYPE "RoomType" AS ENUM ('STANDARD', 'DELUXE', 'SUITE', 'FAMILY', 'PENTHOUSE', 'VILLA', 'BUNGALOW');
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

CREATE TABLE IF NOT EXISTS users (
    id TEXT NOT NULL,
    name TEXT,
    email TEXT NOT NULL,
    phone TEXT,
    "preferredLanguage" TEXT NOT NULL DEFAULT 'tr',
    "preferredCurrency" TEXT NOT NULL DEFAULT 'TRY',
    "membershipType" "MembershipType" NOT NULL DEFAULT 'BASIC',
    "loyaltyPoints" INTEGER NOT NULL DEFAULT 0,
    "isActive" BOOLEAN NOT NULL DEFAULT true,
    "isEmailVerified" BOOLEAN NOT NULL DEFAULT false,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    "lastLoginAt" TIMESTAMP(3),
    CONSTRAINT users_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX IF NOT EXISTS users_email_key ON users (email);

CREATE TABLE IF NOT EXISTS bookings (
    id TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "bookingType" "BookingType" NOT NULL,
    status "BookingStatus" NOT NULL DEFAULT 'PENDING',
    "totalAmount" DECIMAL(65,30) NOT NULL,
    currency TEXT NOT NULL DEFAULT 'TRY',
    "paymentMethod" "PaymentMethod" NOT NULL,
    "paymentStatus" "PaymentStatus" NOT NULL DEFAULT 'PENDING',
    "checkInDate" TIMESTAMP(3),
    "checkOutDate" TIMESTAMP(3),
    "guestCount" INTEGER,
    "specialRequests" TEXT,
    "bookingReference" TEXT NOT NULL,
    "metaData" JSONB,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT bookings_pkey PRIMARY KEY (id),
    CONSTRAINT "bookings_userId_fkey" FOREIGN KEY ("userId") REFERENCES users (id)
        ON DELETE RESTRICT ON UPDATE CASCADE
);
CREATE UNIQUE INDEX IF NOT EXISTS "bookings_bookingReference_key" ON bookings ("bookingReference");

CREATE TABLE IF NOT EXISTS price_history (
    id TEXT NOT NULL,
    "entityType" TEXT NOT NULL,
    "entityId" TEXT NOT NULL,
    price DECIMAL(65,30) NOT NULL,
    currency TEXT NOT NULL DEFAULT 'TRY',
    metadata JSONB,
    source TEXT,
    "checkInDate" TIMESTAMP(3),
    "checkOutDate" TIMESTAMP(3),
    "travelDate" TIMESTAMP(3),
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT price_history_pkey PRIMARY KEY (id)
);
CREATE INDEX IF NOT EXISTS "price_history_entityType_entityId_idx" ON price_history ("entityType", "entityId");
CREATE INDEX IF NOT EXISTS "price_history_entityType_entityId_createdAt_idx"
    ON price_history ("entityType", "entityId", "createdAt");
CREATE INDEX IF NOT EXISTS "price_history_createdAt_idx" ON price_history ("createdAt");

CREATE TABLE IF NOT EXISTS price_alerts (
    id TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    "entityType" TEXT NOT NULL,
    "entityId" TEXT NOT NULL,
    "entityName" TEXT NOT NULL,
    "targetPrice" DECIMAL(65,30) NOT NULL,
    "currentPrice" DECIMAL(65,30) NOT NULL,
    currency TEXT NOT NULL DEFAULT 'TRY',
    status "PriceAlertStatus" NOT NULL DEFAULT 'ACTIVE',
    "notificationMethod" TEXT[] DEFAULT ARRAY['EMAIL']::TEXT[],
    metadata JSONB,
    "priceDropPercentage" DECIMAL(65,30),
    "expiresAt" TIMESTAMP(3),
    "lastNotifiedAt" TIMESTAMP(3),
    "notificationCount" INTEGER NOT NULL DEFAULT 0,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT price_alerts_pkey PRIMARY KEY (id),
    CONSTRAINT "price_alerts_userId_fkey" FOREIGN KEY ("userId") REFERENCES users (id)
        ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX IF NOT EXISTS "price_alerts_userId_idx" ON price_alerts ("userId");
CREATE INDEX IF NOT EXISTS "price_alerts_entityType_entityId_idx" ON price_alerts ("entityType", "entityId");
CREATE INDEX IF NOT EXISTS price_alerts_status_idx ON price_alerts (status);
CREATE INDEX IF NOT EXISTS "price_alerts_expiresAt_idx" ON price_alerts ("expiresAt");

CREATE TABLE IF NOT EXISTS notifications (
    id TEXT NOT NULL,
    "userId" TEXT NOT NULL,
    type "NotificationType" NOT NULL,
    title TEXT NOT NULL,
    message TEXT NOT NULL,
    data JSONB,
    "isRead" BOOLEAN NOT NULL DEFAULT false,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT notifications_pkey PRIMARY KEY (id),
    CONSTRAINT "notifications_userId_fkey" FOREIGN KEY ("userId") REFERENCES users (id)
        ON DELETE RESTRICT ON UPDATE CASCADE
);

CREATE TABLE IF NOT EXISTS hotels (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    description TEXT NOT NULL,
    city TEXT NOT NULL,
    region TEXT NOT NULL,
    country TEXT NOT NULL DEFAULT 'Turkey',
    address TEXT NOT NULL,
    stars INTEGER NOT NULL,
    rating DECIMAL(65,30) NOT NULL DEFAULT 0,
    "hotelType" "HotelType" NOT NULL,
    "checkInTime" TEXT NOT NULL DEFAULT '14:00',
    "checkOutTime" TEXT NOT NULL DEFAULT '12:00',
    "roomCount" INTEGER NOT NULL,
    "mainImage" TEXT NOT NULL,
    "priceMin" DECIMAL(65,30) NOT NULL,
    "priceMax" DECIMAL(65,30) NOT NULL,
    currency TEXT NOT NULL DEFAULT 'TRY',
    phone TEXT,
    email TEXT,
    website TEXT,
    "cancellationPolicy" TEXT,
    "isActive" BOOLEAN NOT NULL DEFAULT true,
    "isFeatured" BOOLEAN NOT NULL DEFAULT false,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT hotels_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX IF NOT EXISTS hotels_slug_key ON hotels (slug);

CREATE TABLE IF NOT EXISTS hotel_rooms (
    id TEXT NOT NULL,
    "hotelId" TEXT NOT NULL,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    description TEXT NOT NULL,
    "roomType" "RoomType" NOT NULL,
    "bedType" TEXT NOT NULL,
    "maxOccupancy" INTEGER NOT NULL,
    "maxAdults" INTEGER NOT NULL,
    "maxChildren" INTEGER NOT NULL,
    "roomCount" INTEGER NOT NULL,
    "pricePerNight" DECIMAL(65,30) NOT NULL,
    currency TEXT NOT NULL DEFAULT 'TRY',
    "isAvailable" BOOLEAN NOT NULL DEFAULT true,
    "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" TIMESTAMP(3) NOT NULL,
    CONSTRAINT hotel_rooms_pkey PRIMARY KEY (id),
    CONSTRAINT "hotel_rooms_hotelId_fkey" FOREIGN KEY ("hotelId") REFERENCES hotels (id)
        ON DELETE CASCADE ON UPDATE CASCADE
);
