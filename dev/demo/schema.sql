-- The tables of the demo, before their rows are copied in. Keys and indexes follow in indexes.sql:
-- building them once over the loaded rows is faster than keeping them up to date meanwhile.
-- The order of the columns is free; their names are those of the data set.

CREATE TABLE public.airlines (
    carrier     text NOT NULL,
    name        text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);

CREATE TABLE public.airports (
    faa         text NOT NULL,
    name        text NOT NULL,
    lat         double precision NOT NULL,
    lon         double precision NOT NULL,
    alt         integer NOT NULL,
    tz          integer NOT NULL,
    dst         text NOT NULL,
    tzone       text,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);

CREATE TABLE public.planes (
    tailnum       text NOT NULL,
    year          integer,
    type          text NOT NULL,
    manufacturer  text NOT NULL,
    model         text NOT NULL,
    engines       integer NOT NULL,
    seats         integer NOT NULL,
    speed         integer,
    engine        text NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz
);

CREATE TABLE public.flights (
    flight_id       bigint GENERATED ALWAYS AS IDENTITY,
    year            integer NOT NULL,
    month           integer NOT NULL,
    day             integer NOT NULL,
    dep_time        integer,
    sched_dep_time  integer NOT NULL,
    dep_delay       integer,
    arr_time        integer,
    sched_arr_time  integer NOT NULL,
    arr_delay       integer,
    carrier         text NOT NULL,
    flight          integer NOT NULL,
    tailnum         text,
    origin          text NOT NULL,
    dest            text NOT NULL,
    air_time        integer,
    distance        integer NOT NULL,
    hour            integer NOT NULL,
    minute          integer NOT NULL,
    time_hour       timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz
);

CREATE TABLE public.weather (
    origin      text NOT NULL,
    year        integer NOT NULL,
    month       integer NOT NULL,
    day         integer NOT NULL,
    hour        integer NOT NULL,
    temp        double precision,
    dewp        double precision,
    humid       double precision,
    wind_dir    integer,
    wind_speed  double precision,
    wind_gust   double precision,
    precip      double precision NOT NULL,
    pressure    double precision,
    visib       double precision NOT NULL,
    time_hour   timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
